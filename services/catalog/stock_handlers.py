"""StockService, and the part of CatalogService that is about stock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from prometheus_client import Counter

from services.catalog import (
    hold_store,
    messages,
    reservation_store,
    stock_messages,
    stock_rules,
    stock_store,
    store,
)
from services.catalog.hold_store import Wish
from services.catalog.stock_rules import Line, Reservation
from services.kit import call, errors, failures, pages
from services.kit.batches import Batch
from services.kit.db import Database, Row
from services.kit.errors import ServiceError
from services.kit.together import Together
from shop.catalog.v1 import catalog_pb2, catalog_pb2_grpc, stock_pb2, stock_pb2_grpc
from shop.errors.v1 import reason_pb2

DEFAULT_TTL = timedelta(minutes=15)
SHORT = Counter(
    "shop_stock_short_total",
    "Reservations refused for lack of stock: seen when it was `offered`, or, as others were faster,"
    " when it was to be `held`.",
    ["seen"],
)
for _seen in ("offered", "held"):
    SHORT.labels(_seen)
AFTER_ALL = 2**63 - 1
VARIANT, PRODUCT = "variant", "product"


# A reservation, if one was made, and otherwise what stock there was.
Held: TypeAlias = tuple[Reservation | None, list[Row]]


class Wanted(NamedTuple):
    """What an offer is asked for by: a variant, or the product whose default one is meant."""

    kind: str
    id: UUID


class Stock(catalog_pb2_grpc.CatalogServiceServicer):
    """Stock as staff see it."""

    _db: Database

    async def AdjustStock(
        self, request: catalog_pb2.AdjustStockRequest, context: Any
    ) -> catalog_pb2.AdjustStockResponse:
        variant_id = UUID(request.variant_id)
        answer = catalog_pb2.AdjustStockResponse()
        async with self._db.transaction() as tx:
            stock = await stock_store.lock_stock(tx, variant_id)
            change = stock_rules.adjustment(request, stock)
            if change:
                row = await stock_store.adjust(
                    tx, variant_id, change, request.reason, request.note, call.user_id()
                )
                answer.movement.CopyFrom(stock_messages.movement(row))
            variant = await store.get_variant(tx, variant_id)
            answer.variant.CopyFrom(messages.variant(variant))
            return tx.reply(answer)

    async def ListStockMovements(
        self, request: catalog_pb2.ListStockMovementsRequest, context: Any
    ) -> catalog_pb2.ListStockMovementsResponse:
        variant_id = UUID(request.variant_id)
        key = pages.start(request, int)
        before = key[0] if key else AFTER_ALL
        async with self._db.connection() as connection:
            rows = await stock_store.movements(
                connection, variant_id, before, pages.size(request) + 1
            )
            if not rows:
                await store.get_variant(connection, variant_id)
        page, next_page_token = pages.cut(request, rows, lambda row: (row["sequence"],))
        return catalog_pb2.ListStockMovementsResponse(
            movements=[stock_messages.movement(row) for row in page],
            next_page_token=next_page_token,
        )


class StockService(stock_pb2_grpc.StockServiceServicer):
    """Stock as the other services use it."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._offers: Batch[Wanted, Row] = Batch(self._fetch_offers)
        self._holds: Together[Wish, Held] = Together(self._hold)

    async def ReserveStock(
        self, request: stock_pb2.ReserveStockRequest, context: Any
    ) -> stock_pb2.Reservation:
        (outcome,) = await self._reserve([request])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def BatchReserveStock(
        self, request: stock_pb2.BatchReserveStockRequest, context: Any
    ) -> stock_pb2.BatchReserveStockResponse:
        answer = stock_pb2.BatchReserveStockResponse()
        for outcome in await self._reserve(request.requests):
            if isinstance(outcome, Exception):
                answer.results.add(refusal=failures.refusal(outcome).status())
            else:
                answer.results.add(reservation=outcome)
        return answer

    async def CommitReservation(
        self, request: stock_pb2.CommitReservationRequest, context: Any
    ) -> stock_pb2.Reservation:
        async with self._db.transaction() as tx:
            reservation = await reservation_store.lock(tx, UUID(request.order_id))
            if reservation.state != stock_rules.COMMITTED:
                moves = stock_rules.commit(reservation)
                reservation, found = await reservation_store.settle(
                    tx, reservation, stock_rules.COMMITTED, moves
                )
                stock_rules.check_committed(reservation, found)
            return tx.reply(stock_messages.reservation(reservation))

    async def ReleaseReservation(
        self, request: stock_pb2.ReleaseReservationRequest, context: Any
    ) -> stock_pb2.Reservation:
        order_id = UUID(request.order_id)
        async with self._db.transaction() as tx:
            reservation = await reservation_store.remember_released(tx, order_id)
            if reservation is None:
                reservation = await reservation_store.lock(tx, order_id)
            if reservation.state != stock_rules.RELEASED:
                moves = stock_rules.release(reservation, restock=request.restock)
                reservation, _ = await reservation_store.settle(
                    tx, reservation, stock_rules.RELEASED, moves
                )
            return tx.reply(stock_messages.reservation(reservation))

    async def BatchGetVariants(
        self, request: stock_pb2.BatchGetVariantsRequest, context: Any
    ) -> stock_pb2.BatchGetVariantsResponse:
        offers = await self._offers.get_all(
            [
                *(Wanted(VARIANT, UUID(id)) for id in request.variant_ids),
                *(Wanted(PRODUCT, UUID(id)) for id in request.product_ids),
            ]
        )
        found = {offer["id"]: offer for offer in offers.values()}
        return stock_pb2.BatchGetVariantsResponse(
            variants=[stock_messages.snapshot(offer) for offer in found.values()]
        )

    async def _fetch_offers(self, wanted: Sequence[Wanted]) -> dict[Wanted, Row]:
        async with self._db.connection() as connection:
            offers = await stock_store.offers(
                connection,
                [id for kind, id in wanted if kind == VARIANT],
                [id for kind, id in wanted if kind == PRODUCT],
            )
        by_variant = {Wanted(VARIANT, offer["id"]): offer for offer in offers}
        by_product = {
            Wanted(PRODUCT, offer["product_id"]): offer
            for offer in offers
            if offer["id"] == offer["default_variant_id"]
        }
        return by_variant | by_product

    async def _reserve(
        self, requests: Sequence[stock_pb2.ReserveStockRequest]
    ) -> list[stock_pb2.Reservation | Exception]:
        """The orders' reservations, made now or by this or another call before; or why not.

        What is offered is read first, by itself: what it costs then is what is reserved, and what
        is sold out is refused without a row being locked.
        """
        wanted = [_wanted(line) for request in requests for line in request.lines]
        offers = (await self._offers.get_all(wanted)).values()
        wishes = [_wish(request, offers) for request in requests]
        able = [wish for wish in wishes if isinstance(wish, Wish)]
        held = iter(await self._holds.do_all(able))
        return [
            await self._outcome(request, wish, next(held) if isinstance(wish, Wish) else wish)
            for request, wish in zip(requests, wishes, strict=True)
        ]

    async def _outcome(
        self,
        request: stock_pb2.ReserveStockRequest,
        wish: Wish | ServiceError,
        held: Held | Exception,
    ) -> stock_pb2.Reservation | Exception:
        """What is answered for an order of which so much could be held."""
        try:
            if isinstance(wish, ServiceError):
                reservation = await self._made_before(request, _counted(wish, "offered"))
            elif isinstance(held, Exception):
                return held
            elif held[0] is not None:
                reservation = held[0]
            else:
                reservation = await self._made_before(request, _not_held(wish, held[1]))
            stock_rules.check_repeated(reservation, request.lines)
        except Exception as error:
            return error
        return stock_messages.reservation(reservation)

    async def _hold(self, wishes: Sequence[Wish]) -> list[Held]:
        """Reserve for each order, all by one statement if there is enough for all."""
        changes = [id for wish in wishes for id in wish.pieces]
        # Calls for the same order may wait together: the first of them has its wish.
        first = {wish.order_id: wish for wish in reversed(wishes)}
        made: dict[int, Reservation | None] = {}
        async with self._db.statement(changes) as connection:
            if len(first) > 1:
                orders = list(first.values())
                held = await hold_store.hold_all(connection, orders)
                made = {id(wish): each for wish, each in zip(orders, held, strict=True)}
            return [
                (reservation, [])
                if (reservation := made.get(id(wish))) is not None
                else await hold_store.hold(connection, wish)
                for wish in wishes
            ]

    async def _made_before(
        self, request: stock_pb2.ReserveStockRequest, refusal: ServiceError
    ) -> Reservation:
        """The order's reservation, or `refusal` when it has none.

        What is reserved already may be all there was, or no longer for sale.
        """
        async with self._db.connection() as connection:
            reservation = await reservation_store.find(connection, UUID(request.order_id))
        if reservation is None:
            raise refusal
        return reservation


def _wanted(line: stock_pb2.ReserveStockRequest.Line) -> Wanted:
    if line.variant_id:
        return Wanted(VARIANT, UUID(line.variant_id))
    return Wanted(PRODUCT, UUID(line.product_id))


def _wish(request: stock_pb2.ReserveStockRequest, offers: Collection[Row]) -> Wish | ServiceError:
    """What a request asks to be held, of what is offered; or why that cannot be."""
    try:
        chosen = stock_rules.choose(request.lines, offers)
        lines = [
            Line(offer["id"], line.quantity, stock_messages.snapshot(offer).SerializeToString())
            for line, offer in zip(request.lines, chosen, strict=True)
        ]
        stock_rules.check_offered(lines, chosen)
    except ServiceError as refusal:
        return refusal
    ttl = request.ttl.ToTimedelta() if request.HasField("ttl") else DEFAULT_TTL
    return Wish(UUID(request.order_id), lines, stock_rules.demand(lines), ttl)


def _not_held(wish: Wish, found: Sequence[Row]) -> ServiceError:
    """Why an order has none of what was there: too little, or it had its reservation already."""
    try:
        stock_rules.check_held(wish.lines, found)
    except ServiceError as refusal:
        return _counted(refusal, "held")
    return errors.not_found("reservation", wish.order_id)


def _counted(refusal: ServiceError, seen: str) -> ServiceError:
    if refusal.reason == reason_pb2.REASON_OUT_OF_STOCK:
        SHORT.labels(seen).inc()
    return refusal
