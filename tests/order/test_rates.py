"""Rates: what staff set, and what orders are calculated with."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.order.v1.rate_pb2 import (
    CreateShippingRateRequest,
    CreateTaxRateRequest,
    DeleteShippingRateRequest,
    DeleteTaxRateRequest,
    GetShippingRateRequest,
    GetTaxRateRequest,
    ListShippingRatesRequest,
    ListTaxRatesRequest,
    ShippingRate,
    TaxRate,
    UpdateShippingRateRequest,
    UpdateTaxRateRequest,
)
from tests.order.shop import ADDRESS, Shop, euros
from tests.running import refused


async def shipping(shop: Shop, region_code: str, price: Money, **fields: Any) -> ShippingRate:
    return await shop.rates.CreateShippingRate(
        CreateShippingRateRequest(region_code=region_code, price=price, **fields),
        metadata=shop.staff(),
    )


async def tax(shop: Shop, region_code: str, rate_ppm: int, **fields: Any) -> TaxRate:
    return await shop.rates.CreateTaxRate(
        CreateTaxRateRequest(region_code=region_code, rate_ppm=rate_ppm, **fields),
        metadata=shop.staff(),
    )


class TestGetRates:
    async def test_one_is_answered_as_it_was_made(self, shop: Shop) -> None:
        by = shop.staff()
        rate, duty = await shipping(shop, "DE", euros(4)), await tax(shop, "DE", 190_000)
        assert (
            await shop.rates.GetShippingRate(GetShippingRateRequest(id=rate.id), metadata=by)
            == rate
        )
        assert await shop.rates.GetTaxRate(GetTaxRateRequest(id=duty.id), metadata=by) == duty
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.rates.GetShippingRate(GetShippingRateRequest(id=duty.id), metadata=by)
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.rates.GetTaxRate(GetTaxRateRequest(id=rate.id), metadata=by)


class TestShippingRates:
    async def test_the_country_goes_before_all_others(self, shop: Shop) -> None:
        await shipping(shop, "DE", euros(4))
        await shipping(shop, "FR", euros(9))
        customer = await shop.customer()
        lamp = await shop.product()
        assert (await shop.order(customer, (lamp, 1))).shipping_total == euros(4)
        elsewhere = ADDRESS.__class__(region_code="AT", address_lines=["Ring 1"])
        order = await shop.order(customer, (lamp, 1), shipping_address=elsewhere)
        assert order.shipping_total == euros(0)

    async def test_there_is_one_for_each_country_and_currency(self, shop: Shop) -> None:
        await shipping(shop, "DE", euros(4))
        await shipping(shop, "DE", Money(currency_code="USD", units=4))
        with refused(StatusCode.ALREADY_EXISTS, "RATE_TAKEN"):
            await shipping(shop, "DE", euros(5))

    async def test_two_currencies_do_not_mix(self, shop: Shop) -> None:
        dollars = Money(currency_code="USD", units=50)
        with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH") as refusal:
            await shipping(shop, "DE", euros(4), free_over=dollars)
        assert refusal[0].metadata == {"currency_code": "EUR"}
        rate = await shipping(shop, "DE", euros(4), free_over=euros(50))
        for change in ({"free_over": dollars}, {"price": dollars}):
            with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH"):
                await shop.rates.UpdateShippingRate(
                    UpdateShippingRateRequest(id=rate.id, **change), metadata=shop.staff()
                )
        both = UpdateShippingRateRequest(id=rate.id, price=dollars, free_over=dollars)
        changed = await shop.rates.UpdateShippingRate(both, metadata=shop.staff())
        assert (changed.price, changed.free_over) == (dollars, dollars)

    async def test_it_is_changed_and_cleared_by_mask(self, shop: Shop) -> None:
        rate = await shipping(shop, "DE", euros(4), free_over=euros(50))
        changed = await shop.rates.UpdateShippingRate(
            UpdateShippingRateRequest(
                id=rate.id, price=euros(6), update_mask=FieldMask(paths=["price", "free_over"])
            ),
            metadata=shop.staff(),
        )
        assert changed.price == euros(6)
        assert not changed.HasField("free_over")
        assert changed.region_code == "DE"
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await shop.rates.UpdateShippingRate(
                UpdateShippingRateRequest(id=rate.id, update_mask=FieldMask(paths=["price"])),
                metadata=shop.staff(),
            )
        with refused(StatusCode.INVALID_ARGUMENT, "UNKNOWN_FIELD_IN_MASK"):
            await shop.rates.UpdateShippingRate(
                UpdateShippingRateRequest(id=rate.id, update_mask=FieldMask(paths=["etag"])),
                metadata=shop.staff(),
            )
        with refused(StatusCode.ALREADY_EXISTS, "RATE_TAKEN"):
            await shop.rates.UpdateShippingRate(
                UpdateShippingRateRequest(id=rate.id, region_code=""), metadata=shop.staff()
            )

    async def test_a_stale_etag_aborts(self, shop: Shop) -> None:
        rate = await shipping(shop, "DE", euros(4))
        await shop.rates.UpdateShippingRate(
            UpdateShippingRateRequest(id=rate.id, price=euros(5)), metadata=shop.staff()
        )
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await shop.rates.UpdateShippingRate(
                UpdateShippingRateRequest(id=rate.id, price=euros(6), etag=rate.etag),
                metadata=shop.staff(),
            )
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await shop.rates.DeleteShippingRate(
                DeleteShippingRateRequest(id=rate.id, etag=rate.etag), metadata=shop.staff()
            )

    async def test_pages_follow_each_other_by_country_and_currency(self, shop: Shop) -> None:
        for region in ("FR", "DE", "AT"):
            await shipping(shop, region, euros(1))
        seen: list[tuple[str, str]] = []
        token = ""
        for _ in range(2):
            page = await shop.rates.ListShippingRates(
                ListShippingRatesRequest(page_size=2, page_token=token), metadata=shop.staff()
            )
            seen += [(rate.region_code, rate.price.currency_code) for rate in page.shipping_rates]
            token = page.next_page_token
        assert seen == [("", "EUR"), ("AT", "EUR"), ("DE", "EUR"), ("FR", "EUR")]
        assert token == ""

    async def test_without_one_nothing_is_shipped_there(self, shop: Shop) -> None:
        page = await shop.rates.ListShippingRates(ListShippingRatesRequest(), metadata=shop.staff())
        await shop.rates.DeleteShippingRate(
            DeleteShippingRateRequest(id=page.shipping_rates[0].id), metadata=shop.staff()
        )
        with refused(StatusCode.FAILED_PRECONDITION, "SHIPPING_UNAVAILABLE"):
            await shop.placed()

    async def test_what_is_not_there_is_not_found(self, shop: Shop) -> None:
        id = str(uuid7())
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.rates.UpdateShippingRate(
                UpdateShippingRateRequest(id=id), metadata=shop.staff()
            )
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.rates.DeleteShippingRate(
                DeleteShippingRateRequest(id=id), metadata=shop.staff()
            )

    async def test_it_is_for_staff(self, shop: Shop) -> None:
        customer = await shop.customer()
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await shop.rates.ListShippingRates(ListShippingRatesRequest(), metadata=customer())


class TestTaxRates:
    async def test_the_country_goes_before_all_others(self, shop: Shop) -> None:
        await tax(shop, "", 500_000)
        german = await tax(shop, "DE", 200_000)
        customer = await shop.customer()
        lamp = await shop.product(price=10)
        assert (await shop.order(customer, (lamp, 1))).tax_total == euros(2)
        await shop.rates.DeleteTaxRate(DeleteTaxRateRequest(id=german.id), metadata=shop.staff())
        assert (await shop.order(customer, (lamp, 1))).tax_total == euros(5)

    async def test_there_is_one_for_each_country(self, shop: Shop) -> None:
        await tax(shop, "DE", 190_000)
        with refused(StatusCode.ALREADY_EXISTS, "RATE_TAKEN"):
            await tax(shop, "DE", 70_000, included=True)

    async def test_it_is_changed_and_existing_orders_are_not(self, shop: Shop) -> None:
        rate = await tax(shop, "DE", 100_000)
        _, order = await shop.placed()
        changed = await shop.rates.UpdateTaxRate(
            UpdateTaxRateRequest(id=rate.id, rate_ppm=0, included=True), metadata=shop.staff()
        )
        assert (changed.rate_ppm, changed.included, changed.region_code) == (0, True, "DE")
        assert (await shop.get(order)).tax_total == euros(1)

    async def test_pages_follow_each_other_by_country(self, shop: Shop) -> None:
        for region in ("FR", "", "AT"):
            await tax(shop, region, 1)
        first = await shop.rates.ListTaxRates(
            ListTaxRatesRequest(page_size=2), metadata=shop.staff()
        )
        second = await shop.rates.ListTaxRates(
            ListTaxRatesRequest(page_size=2, page_token=first.next_page_token),
            metadata=shop.staff(),
        )
        seen = [rate.region_code for rate in (*first.tax_rates, *second.tax_rates)]
        assert seen == ["", "AT", "FR"]

    @pytest.mark.parametrize("rate_ppm", [-1, 1_000_001])
    async def test_a_rate_is_0_to_100_percent(self, shop: Shop, rate_ppm: int) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await tax(shop, "DE", rate_ppm)
