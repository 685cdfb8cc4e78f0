"""CreateOrder: from a request to an order whose stock is held."""

from __future__ import annotations

import pytest
from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import Product, UpdateProductRequest
from shop.order.v1.order_pb2 import CreateOrderRequest, Order
from shop.order.v1.rate_pb2 import CreateTaxRateRequest
from shop.users.v1.users_pb2 import CreateAddressRequest
from tests.callers import User
from tests.order.shop import ADDRESS, Shop, euros, request
from tests.running import refused


class TestCreateOrder:
    async def test_items_become_an_order_that_waits_for_its_payment(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5, price=12)
        chair = await shop.product(stock=5, price=30, name="Chair", sku="CHAIR-1")
        order = await shop.order(customer, (lamp, 2), (chair, 1), note="Ring twice.")
        assert order.status == Order.AWAITING_PAYMENT
        assert order.user_id == str(customer.id)
        assert order.email.endswith("@example.com")
        assert [line.product_name for line in order.lines] == ["Lamp", "Chair"]
        assert [line.quantity for line in order.lines] == [2, 1]
        assert order.lines[1].sku == "CHAIR-1"
        assert order.lines[0].line_total == euros(24)
        assert order.subtotal == order.total == euros(54)
        assert order.discount_total == order.tax_total == order.refunded_total == euros(0)
        assert order.shipping_address == ADDRESS
        assert order.note == "Ring twice."
        assert len(order.number) == 9
        seconds = order.expire_time.seconds - order.create_time.seconds
        assert 890 <= seconds <= 930
        assert await shop.stock(lamp) == (5, 2)
        assert await shop.get(order) == order

    async def test_a_product_id_means_its_default_variant(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product()
        item = CreateOrderRequest.Item(product_id=lamp.id, quantity=1)
        order = await shop.orders.CreateOrder(
            CreateOrderRequest(items=[item], shipping_address=ADDRESS), metadata=customer()
        )
        assert order.lines[0].variant_id == lamp.default_variant_id

    async def test_the_answer_says_where_the_order_is(self, shop: Shop) -> None:
        customer = await shop.customer()
        call = shop.orders.CreateOrder(request((await shop.product(), 1)), metadata=customer())
        order = await call
        metadata = dict(await call.initial_metadata() or ())
        assert metadata["x-http-code"] == "201"
        assert metadata["location"] == f"/api/orders/{order.id}/"

    async def test_the_history_begins_with_it(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        first, second = await shop.events(order)
        assert (first.sequence, first.from_status, first.to_status) == (1, 0, Order.PENDING)
        assert first.user_id == str(customer.id)
        assert (second.from_status, second.to_status) == (Order.PENDING, Order.AWAITING_PAYMENT)

    async def test_prices_and_names_stay_as_they_were(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(price=12)
        order = await shop.order(customer, (lamp, 1))
        await shop.catalog.UpdateProduct(
            UpdateProductRequest(id=lamp.id, name="Dear lamp", price=euros(99)),
            metadata=shop.staff(),
        )
        assert await shop.get(order) == order

    async def test_without_enough_stock_nothing_is_ordered(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp, chair = await shop.product(stock=5), await shop.product(stock=1)
        with refused(StatusCode.FAILED_PRECONDITION, "OUT_OF_STOCK") as refusal:
            await shop.order(customer, (lamp, 1), (chair, 2))
        assert refusal[0].metadata["variant_id"] == chair.default_variant_id
        assert refusal[0].preconditions[0][0] == chair.default_variant_id
        assert await shop.stock(lamp) == (5, 0)
        assert await shop.owner.fetchval('SELECT count(*) FROM "order".orders') == 0
        await shop.audit()

    async def test_lines_of_one_variant_are_added_up(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=3)
        with refused(StatusCode.FAILED_PRECONDITION, "OUT_OF_STOCK"):
            await shop.order(customer, (lamp, 2), (lamp, 2))
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED"):
            await shop.order(customer, (lamp, 500), (lamp, 500))

    async def test_a_limit_holds_however_a_variant_is_named(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=2000)
        wanted = request((lamp, 600))
        wanted.items.add(product_id=lamp.id, quantity=600)
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED"):
            await shop.orders.CreateOrder(wanted, metadata=customer())
        await shop.settle()
        assert await shop.stock(lamp) == (2000, 0)

    async def test_what_does_not_exist_is_not_found(self, shop: Shop) -> None:
        customer = await shop.customer()
        for item in (
            CreateOrderRequest.Item(variant_id=str(uuid7()), quantity=1),
            CreateOrderRequest.Item(product_id=str(uuid7()), quantity=1),
        ):
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                await shop.orders.CreateOrder(
                    CreateOrderRequest(items=[item], shipping_address=ADDRESS),
                    metadata=customer(),
                )
        await shop.audit()

    async def test_what_is_not_for_sale_is_refused(self, shop: Shop) -> None:
        customer = await shop.customer()
        draft = await shop.product(state=Product.DRAFT)
        with refused(StatusCode.FAILED_PRECONDITION, "NOT_FOR_SALE") as refusal:
            await shop.order(customer, (draft, 1))
        assert refusal[0].metadata == {"variant_id": draft.default_variant_id}

    async def test_two_currencies_do_not_mix(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product()
        yen = await shop.product(money=Money(currency_code="JPY", units=500))
        with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH"):
            await shop.order(customer, (lamp, 1), (yen, 1))

    @pytest.mark.parametrize("quantity", [0, -1, 1000, 2**31 - 1])
    async def test_quantities_are_1_to_999(self, shop: Shop, quantity: int) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await shop.order(await shop.customer(), (await shop.product(), quantity))

    async def test_a_user_who_is_gone_orders_nothing(self, shop: Shop) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await shop.order(User(), (await shop.product(), 1))


class TestExpectedTotal:
    async def test_the_right_one_is_accepted(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(price=12)
        order = await shop.order(customer, (lamp, 2), expected_total=euros(24))
        assert order.total == euros(24)

    @pytest.mark.parametrize(
        "told",
        [euros(23, 99), Money(currency_code="USD", units=24)],
        ids=["a cent less", "dollars"],
    )
    async def test_another_one_is_refused_and_the_total_is_told(
        self, shop: Shop, told: Money
    ) -> None:
        customer = await shop.customer()
        lamp = await shop.product(price=12)
        with refused(StatusCode.FAILED_PRECONDITION, "TOTAL_CHANGED") as refusal:
            await shop.order(customer, (lamp, 2), expected_total=told)
        assert refusal[0].metadata == {"currency_code": "EUR", "units": "24", "nanos": "0"}
        await shop.audit()
        assert await shop.stock(lamp) == (10, 0)


class TestAddress:
    async def test_one_of_the_address_book_is_copied(self, shop: Shop) -> None:
        customer = await shop.customer()
        home = PostalAddress(region_code="FR", address_lines=["1, rue X"], recipients=["Ada"])
        saved = await shop.users.CreateAddress(
            CreateAddressRequest(user_id="me", postal_address=home, phone="+33 1 23456"),
            metadata=customer(),
        )
        order = await shop.order(customer, (await shop.product(), 1), address_id=saved.id)
        assert order.shipping_address == home
        assert order.shipping_phone == "+33 1 23456"

    async def test_somebody_elses_is_not_found(self, shop: Shop) -> None:
        customer, other = await shop.customer(), await shop.customer()
        saved = await shop.users.CreateAddress(
            CreateAddressRequest(user_id="me", postal_address=ADDRESS), metadata=other()
        )
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusal:
            await shop.order(customer, (await shop.product(), 1), address_id=saved.id)
        assert refusal[0].metadata["resource"] == "address"

    async def test_a_country_without_a_rate_is_not_shipped_to(self, shop: Shop) -> None:
        customer = await shop.customer()
        dollars = await shop.product(money=Money(currency_code="USD", units=5))
        with refused(StatusCode.FAILED_PRECONDITION, "SHIPPING_UNAVAILABLE") as refusal:
            await shop.order(customer, (dollars, 1))
        assert refusal[0].metadata == {"region_code": "DE"}


class TestTotals:
    async def test_shipping_and_tax_come_on_top(self, shop: Shop) -> None:
        await shop.ship("EUR", 5, region_code="DE", free_over=euros(50))
        await shop.rates.CreateTaxRate(
            CreateTaxRateRequest(region_code="DE", rate_ppm=190_000), metadata=shop.staff()
        )
        customer = await shop.customer()
        lamp = await shop.product(price=10)
        order = await shop.order(customer, (lamp, 1))
        assert order.shipping_total == euros(5)
        assert order.tax_total == euros(2, 85)
        assert order.total == euros(17, 85)
        assert not order.tax_included
        free = await shop.order(customer, (lamp, 5))
        assert (free.shipping_total, free.total) == (euros(0), euros(59, 50))

    async def test_tax_may_be_contained(self, shop: Shop) -> None:
        await shop.rates.CreateTaxRate(
            CreateTaxRateRequest(rate_ppm=190_000, included=True), metadata=shop.staff()
        )
        order = await shop.order(await shop.customer(), (await shop.product(price=119), 1))
        assert order.tax_included
        assert (order.tax_total, order.total) == (euros(19), euros(119))

    @pytest.mark.parametrize(
        ("currency", "nanos", "tax_nanos"),
        [("JPY", 0, 0), ("EUR", 40_000_000, 400_000_000), ("KWD", 5_000_000, 401_000_000)],
    )
    async def test_tax_is_rounded_to_what_the_currency_has(
        self, shop: Shop, currency: str, nanos: int, tax_nanos: int
    ) -> None:
        await shop.rates.CreateTaxRate(
            CreateTaxRateRequest(rate_ppm=100_000), metadata=shop.staff()
        )
        if currency != "EUR":
            await shop.ship(currency, 0)
        price = Money(currency_code=currency, units=4, nanos=nanos)
        order = await shop.order(await shop.customer(), (await shop.product(money=price), 1))
        assert order.tax_total == Money(currency_code=currency, nanos=tax_nanos)

    async def test_what_costs_nothing_is_paid(self, shop: Shop) -> None:
        order = await shop.order(await shop.customer(), (await shop.product(price=0), 1))
        assert order.status == Order.PAID
        assert not order.HasField("expire_time")
        await shop.audit()


class TestIdempotency:
    async def test_the_same_key_answers_the_same_order(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product()
        first = await shop.order(customer, (lamp, 1), key="once")
        assert await shop.order(customer, (lamp, 1), key="once") == first
        assert await shop.stock(lamp) == (10, 1)

    async def test_another_request_with_the_key_is_refused(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product()
        await shop.order(customer, (lamp, 1), key="once")
        with refused(StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED"):
            await shop.order(customer, (lamp, 2), key="once")

    async def test_somebody_elses_key_is_another_one(self, shop: Shop) -> None:
        lamp = await shop.product()
        first = await shop.order(await shop.customer(), (lamp, 1), key="once")
        second = await shop.order(await shop.customer(), (lamp, 1), key="once")
        assert first.id != second.id

    async def test_a_refused_order_leaves_its_key_free(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=1)
        with refused(StatusCode.FAILED_PRECONDITION, "OUT_OF_STOCK"):
            await shop.order(customer, (lamp, 2), key="again")
        order = await shop.order(customer, (lamp, 1), key="again")
        assert order.status == Order.AWAITING_PAYMENT
