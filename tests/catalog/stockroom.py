"""Products with stock, orders on them, and the audit that must find nothing whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from services.kit.ids import uuid7
from shop.catalog.v1 import catalog_pb2, stock_pb2
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from shop.catalog.v1.stock_pb2_grpc import StockServiceStub
from tests import callers
from tests.callers import User
from tests.running import refusal_of

Answer = TypeVar("Answer")
EUR_10 = Money(currency_code="EUR", units=10)

AUDIT = {
    "sum(ledger) = on_hand": """
        SELECT variant_id FROM catalog.stock WHERE on_hand <> (
            SELECT coalesce(sum(change), 0) FROM catalog.stock_movements AS movement
            WHERE movement.variant_id = stock.variant_id)
        """,
    "each line of the ledger goes on from the one before": """
        SELECT id FROM (
            SELECT *, lag(on_hand, 1, 0) OVER (PARTITION BY variant_id ORDER BY sequence) AS before
            FROM catalog.stock_movements) AS ledger
        WHERE on_hand <> before + change
        """,
    "reserved = sum of open reservations": """
        SELECT variant_id FROM catalog.stock WHERE reserved <> (
            SELECT coalesce(sum(quantity), 0)
            FROM catalog.reservation_lines JOIN catalog.reservations USING (order_id)
            WHERE state = 1 AND reservation_lines.variant_id = stock.variant_id)
        """,
    "no more is reserved than there is": """
        SELECT variant_id FROM catalog.stock
        WHERE reserved < 0 OR NOT allow_backorder AND reserved > on_hand
        """,
    "what an order took is what it was sold, but for variants that are gone": """
        SELECT order_id, variant_id FROM (
            SELECT order_id, variant_id, quantity AS pieces
            FROM catalog.reservation_lines JOIN catalog.reservations USING (order_id)
            WHERE state = 2
            UNION ALL
            SELECT order_id, variant_id, change FROM catalog.stock_movements
            WHERE order_id IS NOT NULL) AS taken
        JOIN catalog.stock USING (variant_id)
        GROUP BY order_id, variant_id HAVING sum(pieces) <> 0
        """,
}


async def audit(connection: asyncpg.Connection) -> None:
    """Fail unless stock, ledger and reservations agree."""
    found = {name: await connection.fetch(query) for name, query in AUDIT.items()}
    assert not {name: rows for name, rows in found.items() if rows}


def order() -> str:
    """The id of a new order."""
    return str(uuid7())


def reserve(
    order_id: str, *items: tuple[catalog_pb2.Variant, int], ttl: timedelta | None = None
) -> stock_pb2.ReserveStockRequest:
    """A request to reserve pieces of variants."""
    lines = [
        stock_pb2.ReserveStockRequest.Line(variant_id=variant.id, quantity=pieces)
        for variant, pieces in items
    ]
    request = stock_pb2.ReserveStockRequest(order_id=order_id, lines=lines)
    if ttl is not None:
        duration = Duration()
        duration.FromTimedelta(ttl)
        request.ttl.CopyFrom(duration)
    return request


@dataclass
class Stockroom:
    """The catalogue with stock, as staff and as the order service use it."""

    catalog: CatalogServiceStub
    stock: StockServiceStub
    staff: User

    async def product(
        self, *variants: catalog_pb2.NewVariant, **fields: Any
    ) -> catalog_pb2.Product:
        """A new product."""
        return await self.catalog.CreateProduct(
            catalog_pb2.CreateProductRequest(name="Thing", variants=variants, **fields),
            metadata=self.staff(),
        )

    async def variant(self, pieces: int, *, backorder: bool = False) -> catalog_pb2.Variant:
        """The only variant of a new product, with so many pieces on hand."""
        new = catalog_pb2.NewVariant(price=EUR_10, stock=pieces, allow_backorder=backorder)
        product = await self.product(new)
        return product.variants[0]

    async def variants(self, count: int, pieces: int) -> list[catalog_pb2.Variant]:
        """The only variants of so many products."""
        return [await self.variant(pieces) for _ in range(count)]

    async def now(self, variant: catalog_pb2.Variant) -> tuple[int, int]:
        """Pieces on hand and pieces reserved."""
        product = await self.catalog.GetProduct(
            catalog_pb2.GetProductRequest(id=variant.product_id), metadata=self.staff()
        )
        found = next(item for item in product.variants if item.id == variant.id)
        return found.on_hand, found.reserved

    async def reserve(
        self,
        order_id: str,
        *items: tuple[catalog_pb2.Variant, int],
        ttl: timedelta | None = None,
    ) -> stock_pb2.Reservation:
        request = reserve(order_id, *items, ttl=ttl)
        return await patiently(lambda: self.stock.ReserveStock(request, metadata=callers.service()))

    async def commit(self, order_id: str) -> stock_pb2.Reservation:
        request = stock_pb2.CommitReservationRequest(order_id=order_id)
        return await patiently(
            lambda: self.stock.CommitReservation(request, metadata=callers.service())
        )

    async def release(self, order_id: str, *, restock: bool = False) -> stock_pb2.Reservation:
        request = stock_pb2.ReleaseReservationRequest(order_id=order_id, restock=restock)
        return await patiently(
            lambda: self.stock.ReleaseReservation(request, metadata=callers.service())
        )

    async def adjust(
        self,
        variant: catalog_pb2.Variant,
        change: int,
        reason: catalog_pb2.StockMovement.Reason.ValueType = catalog_pb2.StockMovement.RESTOCK,
    ) -> catalog_pb2.AdjustStockResponse:
        request = catalog_pb2.AdjustStockRequest(
            variant_id=variant.id, change=change, reason=reason
        )
        return await patiently(lambda: self.catalog.AdjustStock(request, metadata=self.staff()))

    async def ledger(self, variant: catalog_pb2.Variant) -> list[catalog_pb2.StockMovement]:
        """The newest 50 lines of the ledger."""
        answer = await self.catalog.ListStockMovements(
            catalog_pb2.ListStockMovementsRequest(variant_id=variant.id), metadata=self.staff()
        )
        return list(answer.movements)


async def patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """What a call answers, made again when it is refused with the advice to try again.

    That is no failure: hundreds of calls at once may be more than a busy machine takes on.
    """
    for _ in range(50):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if reason_of(error) not in ("OVERLOADED", "TRANSACTION_CONFLICT"):
                raise
        await asyncio.sleep(random.uniform(0.05, 0.2))
    return await call()


async def reasons(calls: Iterable[Awaitable[Any]]) -> list[str]:
    """Make all calls at once; "" for each that succeeded, otherwise why it was refused."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return [reason_of(answer) for answer in answers]


def reason_of(answer: object) -> str:
    if isinstance(answer, grpc.aio.AioRpcError):
        return refusal_of(answer).reason or answer.code().name
    if isinstance(answer, BaseException):
        raise answer
    return ""
