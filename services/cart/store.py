"""Every statement on carts.

Whoever changes a cart raises its version first, which locks it: changes of one cart follow each
other. A merge takes the guest's cart before the customer's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, insert

from services.cart import rules
from services.cart.tables import carts, items, metadata, orders
from services.kit import errors, idempotency
from services.kit.db import Connection, Row, Statement
from services.kit.ids import uuid7
from services.kit.statements import Fields, json_object


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose cart: a customer's, or that of the guest who holds the token with this hash."""

    user_id: UUID | None = None
    token_hash: bytes | None = None


KEYS = idempotency.Keys(metadata)

_ID = sa.bindparam("row_id", type_=sa.Uuid)
_CART_ID = sa.bindparam("of_cart", type_=sa.Uuid)
_USER_ID = sa.bindparam("of_user", type_=sa.Uuid)
_TOKEN_HASH = sa.bindparam("of_token", type_=sa.LargeBinary)
_changed = {"version": carts.c.version + 1, "update_time": sa.func.now()}
_LOCKED = (carts.c.id, carts.c.version, carts.c.update_time)
_guests = sa.and_(carts.c.token_hash == _TOKEN_HASH, carts.c.merge_time.is_(None))
_customers = carts.c.user_id == _USER_ID

_ITEM_PARTS = ("id", "variant_id", "quantity", "unit_price", "currency")
_item = json_object({name: items.c[name] for name in _ITEM_PARTS})
_items_of_cart = (
    sa.select(sa.func.json_agg(aggregate_order_by(_item, items.c.id)))
    .where(items.c.cart_id == carts.c.id)
    .correlate(carts)
    .scalar_subquery()
)
# What `messages.cart` renders.
CART = sa.select(
    carts.c.id,
    carts.c.user_id,
    carts.c.version,
    carts.c.create_time,
    carts.c.update_time,
    sa.func.coalesce(_items_of_cart, sa.literal_column("'[]'::json"), type_=sa.JSON).label("items"),
)

_BY_ID = Statement(CART.where(carts.c.id == _ID))
_OF_CUSTOMER = Statement(CART.where(_customers))
_OF_GUEST = Statement(CART.where(_guests))
_TOUCH_CUSTOMERS = Statement(
    sa.update(carts).where(_customers).values(**_changed).returning(*_LOCKED)
)
_touch_guests = sa.update(carts).where(_guests).values(**_changed).returning(*_LOCKED)
_TOUCH_GUESTS = Statement(_touch_guests)
_TOUCH = Statement(sa.update(carts).where(carts.c.id == _ID).values(**_changed))
_make_customers = (
    insert(carts)
    .values(id=_ID, user_id=_USER_ID)
    .on_conflict_do_update(index_elements=["user_id"], set_=_changed)
    .returning(*_LOCKED)
)
_MAKE_CUSTOMERS = Statement(_make_customers)


def _add_item(cart: Any) -> Statement:
    """Put pieces into the cart that `cart` locks or makes; `added` is null for too many."""
    locked = cart.cte("cart")
    new = insert(items).from_select(
        ["cart_id", "id", "variant_id", "quantity", "unit_price", "currency"],
        sa.select(
            locked.c.id,
            sa.bindparam("item_id", type_=sa.Uuid),
            sa.bindparam("new_variant_id", type_=sa.Uuid),
            sa.bindparam("new_quantity", type_=sa.Integer),
            sa.bindparam("new_unit_price", type_=sa.BigInteger),
            sa.bindparam("new_currency", type_=sa.Text),
        ),
    )
    more = items.c.quantity + new.excluded.quantity
    added = (
        new.on_conflict_do_update(
            index_elements=["cart_id", "variant_id"],
            set_={
                "quantity": more,
                "unit_price": new.excluded.unit_price,
                "currency": new.excluded.currency,
            },
            where=more <= rules.MOST_PIECES,
        )
        .returning(items.c.id)
        .cte("added")
    )
    return Statement(
        sa.select(*locked.c, added.c.id.label("added")).select_from(
            locked.outerjoin(added, sa.true())
        )
    )


_ADD_TO_CUSTOMERS = _add_item(_make_customers)
_ADD_TO_GUESTS = _add_item(_touch_guests)
_ADD_TO_NEW = _add_item(insert(carts).values(id=_ID, token_hash=_TOKEN_HASH).returning(*_LOCKED))
_ADD_TO_UNCHANGED = _add_item(
    sa.update(carts)
    .where(
        carts.c.id == _ID,
        carts.c.version == sa.bindparam("seen_version", type_=carts.c.version.type),
        carts.c.merge_time.is_(None),
    )
    .values(**_changed)
    .returning(*_LOCKED)
)
_of_item = sa.and_(items.c.cart_id == _CART_ID, items.c.id == _ID)
_SET_QUANTITY = Statement(
    sa.update(items).where(_of_item).values(quantity=sa.bindparam("new_quantity", type_=sa.Integer))
)
_REMOVE_ITEM = Statement(sa.delete(items).where(_of_item))
_CLEAR = Statement(sa.delete(items).where(items.c.cart_id == _CART_ID))

_FIND_GUESTS = Statement(
    sa.select(carts.c.id, carts.c.merge_time).where(carts.c.token_hash == _TOKEN_HASH)
)
_MARK_MERGED = Statement(
    sa.update(carts).where(_guests).values(merge_time=sa.func.now(), **_changed)
)
_WRITTEN = ("id", "variant_id", "quantity", "unit_price", "currency")
_rows = (
    sa.func.unnest(
        *(sa.bindparam(f"new_{name}", type_=ARRAY(items.c[name].type)) for name in _WRITTEN)
    )
    .table_valued(*(sa.column(name, items.c[name].type) for name in _WRITTEN), name="new")
    .render_derived()
)
_put = insert(items).from_select(
    ["cart_id", *_WRITTEN], sa.select(_CART_ID, *(_rows.c[name] for name in _WRITTEN))
)
_PUT_ITEMS = Statement(
    _put.on_conflict_do_update(
        index_elements=["cart_id", "variant_id"], set_={"quantity": _put.excluded.quantity}
    )
)

_REMEMBER_ORDER = Statement(
    insert(orders)
    .values(order_id=_ID, cart_id=_CART_ID)
    .on_conflict_do_nothing()
    .returning(sa.true())
)
_ordered = (
    sa.func.unnest(
        sa.bindparam("variant_ids", type_=ARRAY(sa.Uuid)),
        sa.bindparam("quantities", type_=ARRAY(sa.Integer)),
    )
    .table_valued(
        sa.column("variant_id", sa.Uuid), sa.column("quantity", sa.Integer), name="ordered"
    )
    .render_derived()
)
_of_ordered = sa.and_(items.c.cart_id == _CART_ID, items.c.variant_id == _ordered.c.variant_id)
_REMOVE_ORDERED = Statement(
    sa.delete(items).where(_of_ordered, items.c.quantity <= _ordered.c.quantity)
)
_REDUCE_ORDERED = Statement(
    sa.update(items)
    .where(_of_ordered, items.c.quantity > _ordered.c.quantity)
    .values(quantity=items.c.quantity - _ordered.c.quantity)
)

_abandoned = (
    sa.select(carts.c.id)
    .where(
        carts.c.user_id.is_(None),
        carts.c.update_time < sa.func.now() - sa.bindparam("age", type_=sa.Interval),
    )
    .limit(1000)
    .with_for_update(skip_locked=True)
)
_ERASE = Statement(sa.delete(carts).where(_customers))
_FORGET_ABANDONED = Statement(sa.delete(carts).where(carts.c.id.in_(_abandoned)))


async def find(connection: Connection, owner: Owner) -> Row | None:
    """A cart with its items. None when a customer has none. Raises NOT_FOUND for a guest's."""
    if owner.user_id is not None:
        return await _OF_CUSTOMER.first(connection, of_user=owner.user_id)
    if owner.token_hash is None:
        return None
    row = await _OF_GUEST.first(connection, of_token=owner.token_hash)
    if row is None:
        raise _not_found()
    return row


async def get(connection: Connection, id: UUID) -> Row:
    """A cart with its items. Raises NOT_FOUND."""
    row = await _BY_ID.first(connection, row_id=id)
    if row is None:
        raise errors.not_found("cart", id)
    return row


async def touch(tx: Connection, owner: Owner) -> Row | None:
    """Lock a cart and raise its version; `id` and the new `version`. None when there is none."""
    if owner.user_id is not None:
        return await _TOUCH_CUSTOMERS.first(tx, of_user=owner.user_id)
    row = await _TOUCH_GUESTS.first(tx, of_token=owner.token_hash)
    if row is None:
        raise _not_found()
    return row


async def touch_or_make(tx: Connection, owner: Owner) -> Row:
    """As `touch`, and make the cart of a customer who has none."""
    if owner.user_id is not None:
        return await _MAKE_CUSTOMERS.one(tx, row_id=uuid7(), of_user=owner.user_id)
    row = await _TOUCH_GUESTS.first(tx, of_token=owner.token_hash)
    if row is None:
        raise _not_found()
    return row


async def add_item(
    tx: Connection,
    owner: Owner,
    variant_id: UUID,
    quantity: int,
    price: tuple[int, str],
    *,
    new: bool = False,
) -> Row:
    """Put pieces into a cart, and lock it: `id`, the new `version`, and whether it was `added`.

    The cart of a customer who has none is made, and that of a guest whose token is `new`. Raises
    NOT_FOUND for a guest's that does not exist. Nothing is `added` when it would be too many.
    """
    item = _item_values(uuid7(), variant_id, quantity, price)
    if owner.user_id is not None:
        return await _ADD_TO_CUSTOMERS.one(tx, row_id=uuid7(), of_user=owner.user_id, **item)
    if new:
        return await _ADD_TO_NEW.one(tx, row_id=uuid7(), of_token=owner.token_hash, **item)
    row = await _ADD_TO_GUESTS.first(tx, of_token=owner.token_hash, **item)
    if row is None:
        raise _not_found()
    return row


async def add_item_to(
    connection: Connection,
    seen: Fields,
    id: UUID,
    variant_id: UUID,
    quantity: int,
    price: tuple[int, str],
) -> Row | None:
    """Put pieces into a cart that is still as it was seen: its new `version` and `update_time`.

    None when it has changed, and nothing was done. The item has this `id` if it is new.
    """
    return await _ADD_TO_UNCHANGED.first(
        connection,
        row_id=seen["id"],
        seen_version=seen["version"],
        **_item_values(id, variant_id, quantity, price),
    )


def _item_values(
    id: UUID, variant_id: UUID, quantity: int, price: tuple[int, str]
) -> dict[str, Any]:
    return {
        "item_id": id,
        "new_variant_id": variant_id,
        "new_quantity": quantity,
        "new_unit_price": price[0],
        "new_currency": price[1],
    }


async def set_quantity(tx: Connection, cart_id: UUID, id: UUID, quantity: int) -> None:
    """Set the pieces of an item of a locked cart; 0 removes it. Raises NOT_FOUND."""
    if quantity:
        found = await _SET_QUANTITY.run(tx, of_cart=cart_id, row_id=id, new_quantity=quantity)
    else:
        found = await _REMOVE_ITEM.run(tx, of_cart=cart_id, row_id=id)
    if not found:
        raise errors.not_found("item", id)


async def clear(tx: Connection, cart_id: UUID) -> None:
    """Take everything out of a locked cart."""
    await _CLEAR.run(tx, of_cart=cart_id)


async def find_guests(connection: Connection, token_hash: bytes) -> Row:
    """`id` and `merge_time` of a guest's cart, merged or not. Raises NOT_FOUND."""
    row = await _FIND_GUESTS.first(connection, of_token=token_hash)
    if row is None:
        raise _not_found()
    return row


async def mark_merged(tx: Connection, token_hash: bytes) -> bool:
    """Lock a guest's cart and mark it as merged; False when it was before."""
    return bool(await _MARK_MERGED.run(tx, of_token=token_hash))


async def put_items(tx: Connection, cart_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set quantities in a locked cart, adding the items that it does not have."""
    arrays = {
        "new_id": [uuid7() for _ in rows],
        "new_variant_id": [UUID(row["variant_id"]) for row in rows],
        **{
            f"new_{name}": [row[name] for row in rows]
            for name in ("quantity", "unit_price", "currency")
        },
    }
    await _PUT_ITEMS.run(tx, of_cart=cart_id, **arrays)


async def remove_ordered(
    tx: Connection, cart_id: UUID, order_id: UUID, quantities: Mapping[UUID, int]
) -> None:
    """Take ordered pieces out of a cart, once for each order. Raises NOT_FOUND for no cart."""
    if not await _TOUCH.run(tx, row_id=cart_id):
        raise errors.not_found("cart", cart_id)
    if not await _REMEMBER_ORDER.value(tx, row_id=order_id, of_cart=cart_id):
        return
    ordered = {
        "of_cart": cart_id,
        "variant_ids": list(quantities),
        "quantities": list(quantities.values()),
    }
    await _REMOVE_ORDERED.run(tx, **ordered)
    await _REDUCE_ORDERED.run(tx, **ordered)


async def forget_abandoned(connection: Connection, age: timedelta) -> int:
    """Remove up to 1,000 guests' carts that nobody changed for so long; the number removed."""
    return await _FORGET_ABANDONED.run(connection, age=age)


async def erase(tx: Connection, user_id: UUID) -> None:
    """Remove the cart of a user, and what was answered to them."""
    await _ERASE.run(tx, of_user=user_id)
    await KEYS.forget_user(tx, user_id)


def _not_found() -> errors.ServiceError:
    return errors.not_found("cart", "x-cart-token")
