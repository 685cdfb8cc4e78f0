"""CartService, CheckoutService and ErasureService: one method an RPC.

What a cart costs is read from the catalogue outside of transactions, so a change is stored first,
and the cart is rendered afterwards. A call repeated with its idempotency key finds the change done
and answers the cart as it is now.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.cart import messages, rules, store
from services.cart.catalogue import Catalogue
from services.cart.store import Owner
from services.kit import call, errors, masks
from services.kit.db import Database, Row, Transaction
from services.kit.etags import check_etag
from services.kit.idempotency import Replay
from services.kit.ids import uuid7
from services.kit.statements import Fields
from shop.cart.v1 import (
    cart_pb2,
    cart_pb2_grpc,
    checkout_pb2,
    checkout_pb2_grpc,
    erasure_pb2,
    erasure_pb2_grpc,
)
from shop.cart.v1.cart_pb2 import Cart
from shop.catalog.v1.stock_pb2 import VariantSnapshot

TOKEN_HEADER = "x-cart-token"  # noqa: S105 - the name of a header
TOKEN_BYTES = 32


def digest(token: str) -> bytes:
    """What is stored of a cart's token. No salt or slowness is needed: it has 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def owner() -> Owner:
    """Whose cart the call is about: the signed-in customer's, else the guest's with the token."""
    current = call.current()
    if current.caller.user_id is not None:
        return Owner(user_id=current.caller.user_id)
    token = current.metadata.get(TOKEN_HEADER)
    if not token:
        return Owner()
    guest = Owner(token_hash=digest(token))
    if current.claim is not None and guest.token_hash is not None:
        # A guest's idempotency keys are those of the cart, not those of everybody who asks alike.
        current.claim = replace(current.claim, scopes=(f"cart:{guest.token_hash.hex()}",))
    return guest


class CartService(cart_pb2_grpc.CartServiceServicer):
    """The caller's cart."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._db = database
        self._catalogue = catalogue

    async def GetCart(self, request: cart_pb2.GetCartRequest, context: Any) -> Cart:
        return await self._answer(owner())

    async def AddItem(self, request: cart_pb2.AddItemRequest, context: Any) -> Cart:
        whose = owner()
        async with self._db.connection() as connection:
            before = await store.find(connection, whose)
        variant, variants = await self._catalogue.chosen(
            request.variant_id,
            request.product_id,
            rules.variant_ids(before["items"] if before else []),
        )
        rules.check_for_sale(variant)
        if before is not None and call.current().claim is None:
            after = await self._add_to(before, request, variant)
            if after is not None:
                return await self._show(after, variants)
        token = ""
        if whose == Owner():
            # The token is the answer's alone: a key could not be replayed without storing it.
            token = secrets.token_urlsafe(TOKEN_BYTES)
            whose = Owner(token_hash=digest(token))
        price = rules.price_of(variant)
        try:
            async with self._db.transaction(keyed=not token) as tx:
                cart = await store.add_item(
                    tx, whose, UUID(variant.id), request.quantity, price, new=bool(token)
                )
                check_etag(request.etag if not token else "", _before(cart))
                if cart["added"] is None:
                    raise rules.too_many_pieces()
                row = await store.get(tx, cart["id"])
                rules.check_item_count(len(row["items"]))
                rules.check_one_currency(row["items"], price[1])
                tx.reply(Cart())
        except Replay:
            return await self._answer(whose, variants)
        return await self._show(row, variants, token)

    async def _add_to(
        self, before: Row, request: cart_pb2.AddItemRequest, variant: VariantSnapshot
    ) -> Fields | None:
        """The cart with the item, put in by one statement; None if it is no longer as `before`.

        That is rare: then all is done again in a transaction, which looks at the cart once it has
        locked it.
        """
        check_etag(request.etag, before)
        id, variant_id, price = uuid7(), UUID(variant.id), rules.price_of(variant)
        items = rules.with_pieces(before["items"], id, variant_id, request.quantity, price)
        async with self._db.statement() as connection:
            now = await store.add_item_to(
                connection, before, id, variant_id, request.quantity, price
            )
        if now is None:
            return None
        changed = {"version": now["version"], "update_time": now["update_time"], "items": items}
        return {**before, **changed}

    async def UpdateItem(self, request: cart_pb2.UpdateItemRequest, context: Any) -> Cart:
        masks.changes(request, ("quantity",))
        whose = owner()
        with suppress(Replay):
            async with self._db.transaction() as tx:
                cart = await _touch(tx, whose, request.etag, item=request.id)
                await store.set_quantity(tx, cart["id"], UUID(request.id), request.quantity)
                tx.reply(Cart())
        return await self._answer(whose)

    async def RemoveItem(self, request: cart_pb2.RemoveItemRequest, context: Any) -> Cart:
        whose = owner()
        with suppress(Replay):
            async with self._db.transaction() as tx:
                cart = await _touch(tx, whose, request.etag, item=request.id)
                await store.set_quantity(tx, cart["id"], UUID(request.id), 0)
                tx.reply(Cart())
        return await self._answer(whose)

    async def ClearCart(self, request: cart_pb2.ClearCartRequest, context: Any) -> Cart:
        whose = owner()
        if whose == Owner():
            return Cart()
        with suppress(Replay):
            async with self._db.transaction() as tx:
                cart = await store.touch(tx, whose)
                if cart is not None:
                    check_etag(request.etag, _before(cart))
                    await store.clear(tx, cart["id"])
                tx.reply(Cart())
        return await self._answer(whose)

    async def MergeCart(self, request: cart_pb2.MergeCartRequest, context: Any) -> Cart:
        mine = Owner(user_id=call.user_id())
        async with self._db.connection() as connection:
            found = await store.find_guests(connection, digest(request.cart_token))
            both: list[Row | None] = []
            if not found["merge_time"]:
                # By its id: its token no longer finds it once another call has merged it.
                both = [
                    await store.get(connection, found["id"]),
                    await store.find(connection, mine),
                ]
        wanted = {id for row in both if row for id in rules.variant_ids(row["items"])}
        variants = await self._catalogue.variants(wanted)
        with suppress(Replay):
            async with self._db.transaction() as tx:
                await _merge(tx, found["id"], digest(request.cart_token), mine, variants)
                tx.reply(Cart())
        return await self._answer(mine, variants)

    async def _answer(self, whose: Owner, known: messages.Variants | None = None) -> Cart:
        """The cart as it is now."""
        async with self._db.connection() as connection:
            row = await store.find(connection, whose)
        return Cart() if row is None else await self._show(row, known or {})

    async def _show(self, row: Fields, known: messages.Variants, token: str = "") -> Cart:
        """A cart's row; the catalogue is asked for variants that are not `known`."""
        missing = rules.variant_ids(row["items"]) - known.keys()
        variants = {**known, **await self._catalogue.variants(missing)}
        return messages.cart(row, variants, token)


class CheckoutService(checkout_pb2_grpc.CheckoutServiceServicer):
    """Carts, as the order service sees them."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._db = database
        self._catalogue = catalogue

    async def GetCheckoutCart(
        self, request: checkout_pb2.GetCheckoutCartRequest, context: Any
    ) -> Cart:
        async with self._db.connection() as connection:
            row = await store.find(connection, Owner(user_id=UUID(request.user_id)))
        if row is None:
            raise errors.not_found("cart", request.user_id)
        variants = await self._catalogue.variants(rules.variant_ids(row["items"]))
        return messages.cart(row, variants)

    async def RemoveOrderedItems(
        self, request: checkout_pb2.RemoveOrderedItemsRequest, context: Any
    ) -> Empty:
        quantities: dict[UUID, int] = {}
        for line in request.lines:
            id = UUID(line.variant_id)
            quantities[id] = quantities.get(id, 0) + line.quantity
        async with self._db.transaction() as tx:
            await store.remove_ordered(
                tx, UUID(request.cart_id), UUID(request.order_id), quantities
            )
            return tx.reply(Empty())


class ErasureService(erasure_pb2_grpc.ErasureServiceServicer):
    """Erases what carts hold of a person."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def EraseUser(self, request: erasure_pb2.EraseUserRequest, context: Any) -> Empty:
        async with self._db.transaction(keyed=False) as tx:
            await store.erase(tx, UUID(request.user_id))
        return Empty()


def _before(cart: Row) -> dict[str, int]:
    """The version that a cart had before it was touched."""
    return {"version": cart["version"] - 1}


async def _touch(tx: Transaction, whose: Owner, etag: str, item: str) -> Row:
    """Lock the cart that an item is in. Raises NOT_FOUND, ABORTED."""
    cart = None if whose == Owner() else await store.touch(tx, whose)
    if cart is None:
        raise errors.not_found("item", item)
    check_etag(etag, _before(cart))
    return cart


async def _merge(
    tx: Transaction, guests_id: UUID, token_hash: bytes, mine: Owner, variants: messages.Variants
) -> None:
    """Move a guest's items into the customer's cart, unless that was done before."""
    if not await store.mark_merged(tx, token_hash):
        return
    moved = (await store.get(tx, guests_id))["items"]
    await store.clear(tx, guests_id)
    if not moved:
        return
    cart = await store.touch_or_make(tx, mine)
    held = {item["variant_id"]: item for item in (await store.get(tx, cart["id"]))["items"]}
    for item in moved:
        own = held[item["variant_id"]]["quantity"] if item["variant_id"] in held else 0
        variant = variants.get(UUID(item["variant_id"]))
        item["quantity"] = rules.merged_quantity(own, item["quantity"], variant)
    rules.check_item_count(len(held.keys() | {item["variant_id"] for item in moved}))
    rules.check_one_currency(held.values(), moved[0]["currency"])
    await store.put_items(tx, cart["id"], moved)
