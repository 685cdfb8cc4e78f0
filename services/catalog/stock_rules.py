"""What may happen to stock and reservations: pure decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from grpc import StatusCode

from services.catalog import rules
from services.kit import errors
from services.kit.errors import PreconditionViolation, ServiceError
from services.kit.statements import Fields
from shop.catalog.v1 import catalog_pb2, stock_pb2
from shop.catalog.v1.stock_pb2 import Reservation as ReservationMessage
from shop.errors.v1 import reason_pb2

# Pieces of one variant that may be on hand, and that may be owed to backorders.
MOST = 1_000_000_000

ACTIVE = ReservationMessage.ACTIVE
COMMITTED = ReservationMessage.COMMITTED
RELEASED = ReservationMessage.RELEASED
EXPIRED = ReservationMessage.EXPIRED


class Move(NamedTuple):
    """By how many pieces the stock of a variant is to change."""

    variant_id: UUID
    on_hand: int
    reserved: int


class Line(NamedTuple):
    """One line of a reservation, with the variant as it was: a serialized VariantSnapshot."""

    variant_id: UUID
    quantity: int
    snapshot: bytes


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation with its lines, in the order they were asked for."""

    order_id: UUID
    state: ReservationMessage.State.ValueType
    create_time: datetime
    expire_time: datetime
    lines: tuple[Line, ...]


def demand(lines: Iterable[Line]) -> dict[UUID, int]:
    """Pieces wanted of each variant, over all lines."""
    pieces: Counter[UUID] = Counter()
    for line in lines:
        pieces[line.variant_id] += line.quantity
    return dict(pieces)


# --- Reserving ----------------------------------------------------------------------------------


def choose(
    lines: Sequence[stock_pb2.ReserveStockRequest.Line], offers: Iterable[Fields]
) -> list[Fields]:
    """The offer that each line of a request means.

    Raises NOT_FOUND for what does not exist, and FAILED_PRECONDITION for what is not for sale
    (NOT_FOR_SALE) or costs another currency than the first line (CURRENCY_MISMATCH).
    """
    by_variant = {offer["id"]: offer for offer in offers}
    by_product = {
        offer["product_id"]: offer
        for offer in by_variant.values()
        if offer["id"] == offer["default_variant_id"]
    }
    chosen = []
    for line in lines:
        if line.HasField("variant_id"):
            offer = by_variant.get(UUID(line.variant_id))
            if offer is None:
                raise errors.not_found("variant", line.variant_id)
        else:
            offer = by_product.get(UUID(line.product_id))
            if offer is None:
                raise errors.not_found("product", line.product_id)
        chosen.append(offer)
    _check_for_sale(chosen)
    rules.check_currency(chosen[0]["currency"], [offer["currency"] for offer in chosen])
    return chosen


def _check_for_sale(offers: Sequence[Fields]) -> None:
    withdrawn = [
        PreconditionViolation(str(offer["id"]), f"lines[{index}]: is not for sale")
        for index, offer in enumerate(offers)
        if offer["product_state"] != catalog_pb2.Product.ACTIVE
    ]
    if withdrawn:
        raise ServiceError(
            StatusCode.FAILED_PRECONDITION,
            reason_pb2.REASON_NOT_FOR_SALE,
            "Something in the order is not for sale.",
            metadata={"variant_id": withdrawn[0].subject},
            preconditions=withdrawn,
        )


def check_offered(lines: Sequence[Line], offers: Iterable[Fields]) -> None:
    """Raise OUT_OF_STOCK when the offers as they were read are not enough.

    What is sold out is refused by this alone, without a row being locked or written.
    """
    wanted = demand(lines)
    check_held(
        lines,
        [
            {
                "variant_id": offer["id"],
                "on_hand": offer["on_hand"],
                "reserved": offer["reserved"],
                "moved": offer["allow_backorder"] or _available(offer) >= wanted[offer["id"]],
            }
            for offer in offers
            if offer["id"] in wanted
        ],
    )


def check_held(lines: Sequence[Line], found: Iterable[Fields]) -> None:
    """Raise OUT_OF_STOCK, naming every line that is short, unless all stock was moved.

    `found` tells for each variant that still exists what there was, and whether it was `moved`.
    """
    rows = {row["variant_id"]: row for row in found}
    wanted = demand(lines)
    available = {id: _available(rows.get(id)) for id in wanted}
    short = [
        (index, line.variant_id)
        for index, line in enumerate(lines)
        if line.variant_id not in rows or not rows[line.variant_id]["moved"]
    ]
    if not short:
        return
    first = short[0][1]
    raise ServiceError(
        StatusCode.FAILED_PRECONDITION,
        reason_pb2.REASON_OUT_OF_STOCK,
        "There is not enough in stock for the order; nothing was reserved.",
        metadata={
            "variant_id": str(first),
            "requested": str(wanted[first]),
            "available": str(available[first]),
        },
        preconditions=[
            PreconditionViolation(
                str(id), f"lines[{index}]: {wanted[id]} asked for, {available[id]} available"
            )
            for index, id in short
        ],
    )


def _available(row: Fields | None) -> int:
    return 0 if row is None else max(row["on_hand"] - row["reserved"], 0)


_OVER = {
    COMMITTED: (reason_pb2.REASON_RESERVATION_COMMITTED, "is committed"),
    RELEASED: (reason_pb2.REASON_RESERVATION_RELEASED, "was released"),
    EXPIRED: (reason_pb2.REASON_RESERVATION_RELEASED, "ran out"),
}


def check_repeated(
    reservation: Reservation, lines: Sequence[stock_pb2.ReserveStockRequest.Line]
) -> None:
    """Raise FAILED_PRECONDITION unless the order's reservation is open and has these lines."""
    if reservation.state in _OVER:
        raise _refused(*_OVER[reservation.state], reservation)
    if len(lines) != len(reservation.lines) or not all(
        _same(asked, line) for asked, line in zip(lines, reservation.lines, strict=True)
    ):
        raise _refused(reason_pb2.REASON_RESERVATION_MISMATCH, "has other lines", reservation)


def _same(asked: stock_pb2.ReserveStockRequest.Line, line: Line) -> bool:
    """Whether a line is what was asked for, whatever is the product's default by now."""
    if asked.quantity != line.quantity:
        return False
    if asked.HasField("variant_id"):
        return UUID(asked.variant_id) == line.variant_id
    snapshot = stock_pb2.VariantSnapshot.FromString(line.snapshot)
    return UUID(asked.product_id) == UUID(snapshot.product_id)


# --- Committing and releasing -------------------------------------------------------------------


def commit(reservation: Reservation) -> list[Move]:
    """What commits a reservation that is not committed yet.

    The pieces of an expired one are no longer among those reserved. Raises FAILED_PRECONDITION for
    one that was released.
    """
    if reservation.state == RELEASED:
        raise _refused(*_OVER[RELEASED], reservation)
    held = reservation.state == ACTIVE
    return [
        Move(id, -pieces, -pieces if held else 0)
        for id, pieces in demand(reservation.lines).items()
    ]


def check_committed(reservation: Reservation, found: Iterable[Fields]) -> None:
    """Raise FAILED_PRECONDITION unless all stock was moved: others have bought it meanwhile."""
    moved = {row["variant_id"] for row in found if row["moved"]}
    if moved != {line.variant_id for line in reservation.lines}:
        raise _refused(
            reason_pb2.REASON_RESERVATION_EXPIRED,
            "ran out, and its stock has been sold to others",
            reservation,
        )


def release(reservation: Reservation, *, restock: bool) -> list[Move]:
    """What releases a reservation that is not released yet.

    Raises FAILED_PRECONDITION for a committed one, unless its pieces may be put back on hand.
    """
    if reservation.state == COMMITTED and not restock:
        raise _refused(*_OVER[COMMITTED], reservation)
    on_hand = 1 if reservation.state == COMMITTED else 0
    reserved = -1 if reservation.state == ACTIVE else 0
    return [
        Move(id, on_hand * pieces, reserved * pieces)
        for id, pieces in demand(reservation.lines).items()
        if on_hand or reserved
    ]


def _refused(
    reason: reason_pb2.Reason.ValueType, why: str, reservation: Reservation
) -> ServiceError:
    return errors.failed_precondition(
        reason, f"The order's reservation {why}.", order_id=str(reservation.order_id)
    )


# --- Adjusting ----------------------------------------------------------------------------------


def adjustment(request: catalog_pb2.AdjustStockRequest, stock: Fields) -> int:
    """By how many pieces a request changes what is on hand of `stock`; 0 when a count agrees.

    Raises ABORTED (STOCK_CHANGED) when a count expected something else, and FAILED_PRECONDITION for
    more than may be on hand (LIMIT_REACHED) or less than is reserved (STOCK_RESERVED). Where
    backorders are allowed, less may be on hand than is reserved.
    """
    before: int = stock["on_hand"]
    change = request.change
    if request.HasField("set"):
        if request.set.expected_on_hand != before:
            raise ServiceError(
                StatusCode.ABORTED,
                reason_pb2.REASON_STOCK_CHANGED,
                "The quantity on hand is not the expected one: somebody changed it meanwhile.",
                metadata={"on_hand": str(before)},
            )
        change = request.set.on_hand - before
    if change > 0 and before + change > MOST:
        raise rules.limit_reached("on_hand", MOST, f"At most {MOST:,} pieces may be on hand.")
    least = -MOST if stock["allow_backorder"] else 0
    if change < 0 and before + change - stock["reserved"] < least:
        raise rules.stock_reserved(stock, "Fewer pieces would be left than are reserved.")
    return change
