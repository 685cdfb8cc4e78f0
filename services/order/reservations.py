"""The stock of orders, as the catalogue holds it.

Orders that are made at the same time ask for theirs together: a call of its own for each would cost
both services more than what it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from grpc import StatusCode
from grpc.aio import AioRpcError

from services.kit import clients, failures
from services.kit.together import Together
from services.order import rules
from shop.catalog.v1 import stock_pb2, stock_pb2_grpc
from shop.errors.v1 import reason_pb2

ATTEMPTS = 4
# Who asks together, and how long their orders are at most: an answer has to fit into a message.
TOGETHER, FEW_LINES = 20, 10
_CUSTOMERS_REASONS = {
    reason_pb2.REASON_OUT_OF_STOCK,
    reason_pb2.REASON_NOT_FOR_SALE,
    reason_pb2.REASON_RESOURCE_NOT_FOUND,
    reason_pb2.REASON_CURRENCY_MISMATCH,
}


class Reservations:
    """Has stock held and freed."""

    def __init__(self, stock: stock_pb2_grpc.StockServiceStub) -> None:
        self._stock = stock
        self._together: Together[stock_pb2.ReserveStockRequest, stock_pb2.Reservation]
        self._together = Together(self._reserve_all, largest=TOGETHER)

    async def hold(self, request: stock_pb2.ReserveStockRequest) -> stock_pb2.Reservation:
        """Have an order's stock held; asked again, it answers the same.

        Raises what StockService refuses for a reason of the customer's, and ABORTED when another
        call has given the order up.
        """
        alone = len(request.lines) > FEW_LINES
        try:
            reserved: stock_pb2.Reservation = await _ask(
                self._stock.ReserveStock if alone else self._together.do, request
            )
        except AioRpcError as error:
            refusal = clients.refusal(error)
            if refusal is not None and refusal.reason in _CUSTOMERS_REASONS:
                raise refusal from None
            if error.code() is StatusCode.FAILED_PRECONDITION:
                # Released or expired: another call has given the order up, or it took too long.
                raise rules.conflict() from None
            raise
        return reserved

    async def release(self, order_id: UUID) -> None:
        """Free the stock of an order that is cancelled, also when it was paid."""
        request = stock_pb2.ReleaseReservationRequest(order_id=str(order_id), restock=True)
        await _ask(self._stock.ReleaseReservation, request)

    async def _reserve_all(
        self, requests: Sequence[stock_pb2.ReserveStockRequest]
    ) -> list[stock_pb2.Reservation | Exception]:
        if len(requests) == 1:
            return [await self._reserve(requests[0])]
        try:
            answer = await self._stock.BatchReserveStock(
                stock_pb2.BatchReserveStockRequest(requests=requests)
            )
        except AioRpcError as error:
            if error.code() is not StatusCode.UNIMPLEMENTED:
                raise
            # A catalogue of the release before, while one after the other is replaced.
            return [await self._reserve(request) for request in requests]
        return [
            result.reservation
            if result.HasField("reservation")
            else clients.error_of(result.refusal)
            for result in answer.results
        ]

    async def _reserve(
        self, request: stock_pb2.ReserveStockRequest
    ) -> stock_pb2.Reservation | Exception:
        try:
            reserved: stock_pb2.Reservation = await self._stock.ReserveStock(request)
        except AioRpcError as error:
            return error
        return reserved


async def _ask(method: Any, request: Any) -> Any:
    """Call an idempotent method, again when the other service is busy or away."""
    for attempt in range(1, ATTEMPTS):
        try:
            return await method(request)
        except AioRpcError as error:
            if error.code() not in failures.PASSING:
                raise
        await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter
    return await method(request)
