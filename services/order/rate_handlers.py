"""RateService: one method an RPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.kit import errors, ids, masks, pages
from services.kit.db import Database, Row
from services.kit.etags import check_etag
from services.kit.money import to_minor
from services.order import messages
from services.order.rate_store import SHIPPING, TAX, Rates
from shop.errors.v1 import reason_pb2
from shop.order.v1 import rate_pb2, rate_pb2_grpc

SHIPPING_FIELDS = ("region_code", "price", "free_over")
TAX_FIELDS = ("region_code", "rate_ppm", "included")


class RateService(rate_pb2_grpc.RateServiceServicer):
    """Shipping rates and tax rates."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def ListShippingRates(
        self, request: rate_pb2.ListShippingRatesRequest, context: Any
    ) -> rate_pb2.ListShippingRatesResponse:
        key = pages.start(request, str, str)
        async with self._db.connection() as connection:
            rows = await SHIPPING.page(connection, key, pages.size(request) + 1)
        page, token = pages.cut(request, rows, lambda row: (row["region_code"], row["currency"]))
        return rate_pb2.ListShippingRatesResponse(
            shipping_rates=[messages.shipping_rate(row) for row in page], next_page_token=token
        )

    async def GetShippingRate(
        self, request: rate_pb2.GetShippingRateRequest, context: Any
    ) -> rate_pb2.ShippingRate:
        async with self._db.connection() as connection:
            return messages.shipping_rate(await SHIPPING.get(connection, UUID(request.id)))

    async def CreateShippingRate(
        self, request: rate_pb2.CreateShippingRateRequest, context: Any
    ) -> rate_pb2.ShippingRate:
        free_over = request.free_over if request.HasField("free_over") else None
        columns = _shipping_columns(
            {"region_code": request.region_code, "price": request.price, "free_over": free_over}
        )
        id = ids.uuid7()
        async with self._db.transaction() as tx:
            row = await SHIPPING.insert(tx, id, columns)
            return tx.reply(messages.shipping_rate(row), location=f"/api/shipping-rates/{id}/")

    async def UpdateShippingRate(
        self, request: rate_pb2.UpdateShippingRateRequest, context: Any
    ) -> rate_pb2.ShippingRate:
        changes = masks.changes(request, SHIPPING_FIELDS)
        async with self._db.transaction() as tx:
            row = await SHIPPING.lock(tx, UUID(request.id))
            check_etag(request.etag, row)
            row = await SHIPPING.write(tx, row, _shipping_columns(changes, row))
            return tx.reply(messages.shipping_rate(row))

    async def DeleteShippingRate(
        self, request: rate_pb2.DeleteShippingRateRequest, context: Any
    ) -> Empty:
        return await self._delete(SHIPPING, request)

    async def ListTaxRates(
        self, request: rate_pb2.ListTaxRatesRequest, context: Any
    ) -> rate_pb2.ListTaxRatesResponse:
        key = pages.start(request, str)
        async with self._db.connection() as connection:
            rows = await TAX.page(connection, key, pages.size(request) + 1)
        page, token = pages.cut(request, rows, lambda row: (row["region_code"],))
        return rate_pb2.ListTaxRatesResponse(
            tax_rates=[messages.tax_rate(row) for row in page], next_page_token=token
        )

    async def GetTaxRate(
        self, request: rate_pb2.GetTaxRateRequest, context: Any
    ) -> rate_pb2.TaxRate:
        async with self._db.connection() as connection:
            return messages.tax_rate(await TAX.get(connection, UUID(request.id)))

    async def CreateTaxRate(
        self, request: rate_pb2.CreateTaxRateRequest, context: Any
    ) -> rate_pb2.TaxRate:
        id = ids.uuid7()
        async with self._db.transaction() as tx:
            row = await TAX.insert(tx, id, {name: getattr(request, name) for name in TAX_FIELDS})
            return tx.reply(messages.tax_rate(row), location=f"/api/tax-rates/{id}/")

    async def UpdateTaxRate(
        self, request: rate_pb2.UpdateTaxRateRequest, context: Any
    ) -> rate_pb2.TaxRate:
        changes = masks.changes(request, TAX_FIELDS)
        async with self._db.transaction() as tx:
            row = await TAX.lock(tx, UUID(request.id))
            check_etag(request.etag, row)
            return tx.reply(messages.tax_rate(await TAX.write(tx, row, changes)))

    async def DeleteTaxRate(self, request: rate_pb2.DeleteTaxRateRequest, context: Any) -> Empty:
        return await self._delete(TAX, request)

    async def _delete(self, rates: Rates, request: Any) -> Empty:
        async with self._db.transaction() as tx:
            row = await rates.lock(tx, UUID(request.id))
            check_etag(request.etag, row)
            await rates.delete(tx, row["id"])
            return tx.reply(Empty())


def _shipping_columns(fields: Mapping[str, Any], before: Row | None = None) -> dict[str, Any]:
    """The columns that `fields` of a shipping rate set; `before` is the rate's row.

    Raises INVALID_ARGUMENT for a price that is cleared, CURRENCY_MISMATCH for two currencies.
    """
    columns: dict[str, Any] = {}
    currency = before["currency"] if before is not None else ""
    if "region_code" in fields:
        columns["region_code"] = fields["region_code"]
    if "price" in fields:
        if fields["price"] is None:
            raise errors.invalid_field("price", "cannot be cleared")
        currency = fields["price"].currency_code
        columns |= {"price": to_minor(fields["price"], "price"), "currency": currency}
    free_over = fields.get("free_over")
    if "free_over" in fields:
        columns["free_over"] = None if free_over is None else to_minor(free_over, "free_over")
    kept = before is not None and before["free_over"] is not None and "free_over" not in fields
    others = {free_over.currency_code} if free_over is not None else set()
    if kept and before is not None:
        others.add(before["currency"])
    if others - {currency}:
        raise errors.failed_precondition(
            reason_pb2.REASON_CURRENCY_MISMATCH,
            "price and free_over have to be in one currency.",
            currency_code=currency,
        )
    return columns
