"""Reservations, one call after the other; how they race is in `test_reservations_parallel`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from google.type.money_pb2 import Money
from grpc import StatusCode
from grpc.aio import AioRpcError

from services.catalog import reservation_store, sweeper
from services.kit import clients, tasks
from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import (
    DeleteProductRequest,
    DeleteVariantRequest,
    NewVariant,
    Product,
    StockMovement,
    UpdateProductRequest,
    UpdateVariantRequest,
    Variant,
)
from shop.catalog.v1.stock_pb2 import (
    BatchReserveStockRequest,
    BatchReserveStockResponse,
    CommitReservationRequest,
    ReleaseReservationRequest,
    Reservation,
    ReserveStockRequest,
)
from tests import callers
from tests.callers import NOBODY
from tests.catalog import stockroom
from tests.catalog.stockroom import EUR_10, Stockroom, order, reserve
from tests.running import Running, refused

FAILED = StatusCode.FAILED_PRECONDITION
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
async def audited(shop: Stockroom, owner_connection: asyncpg.Connection) -> Any:
    """After every test stock, ledger and reservations agree."""
    yield
    await stockroom.audit(owner_connection)


async def let_time_pass(connection: asyncpg.Connection, order_id: str) -> None:
    """Move a reservation to the past, as if its time were over; nobody has noticed yet."""
    await connection.execute(
        "UPDATE catalog.reservations SET expire_time = now() - interval '1 second'"
        " WHERE order_id = $1",
        order_id,
    )


async def expire(running: Running, connection: asyncpg.Connection, order_id: str) -> None:
    """Have the sweeper end a reservation."""
    await let_time_pass(connection, order_id)
    assert await sweeper.free_expired(running.database) == 1


class TestReserveStock:
    async def test_pieces_are_held_with_what_they_cost(self, shop: Stockroom) -> None:
        shirt, hat = await shop.variants(2, 5)
        id = order()
        before = datetime.now(UTC)
        reservation = await shop.reserve(id, (shirt, 2), (hat, 1))
        assert (reservation.order_id, reservation.state) == (id, Reservation.ACTIVE)
        assert [(line.variant.id, line.quantity) for line in reservation.lines] == [
            (shirt.id, 2),
            (hat.id, 1),
        ]
        assert reservation.lines[0].variant.price == EUR_10
        assert reservation.lines[0].variant.product_name == "Thing"
        ends = reservation.expire_time.ToDatetime(UTC) - reservation.create_time.ToDatetime(UTC)
        assert ends == timedelta(minutes=15)
        assert abs(reservation.create_time.ToDatetime(UTC) - before) < 5 * SECOND
        assert await shop.now(shirt) == (5, 2)
        assert await shop.now(hat) == (5, 1)

    async def test_the_caller_says_how_long(self, shop: Stockroom) -> None:
        (shirt,) = await shop.variants(1, 5)
        held = await shop.reserve(order(), (shirt, 1), ttl=timedelta(hours=2))
        ends = held.expire_time.ToDatetime() - held.create_time.ToDatetime()
        assert ends == timedelta(hours=2)

    async def test_a_product_means_its_default_variant(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        line = ReserveStockRequest.Line(product_id=variant.product_id, quantity=2)
        request = ReserveStockRequest(order_id=order(), lines=[line])
        held = await shop.stock.ReserveStock(request, metadata=callers.service())
        assert held.lines[0].variant.id == variant.id
        again = await shop.stock.ReserveStock(request, metadata=callers.service())
        assert again == held

    async def test_the_demand_of_lines_on_one_variant_is_added_up(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        with refused(FAILED, "OUT_OF_STOCK") as refusals:
            await shop.reserve(order(), (variant, 3), (variant, 3))
        assert refusals[0].metadata["requested"] == "6"
        held = await shop.reserve(order(), (variant, 3), (variant, 2))
        assert [line.quantity for line in held.lines] == [3, 2]
        assert await shop.now(variant) == (5, 5)

    async def test_any_line_missing_and_none_is_reserved(self, shop: Stockroom) -> None:
        plenty, few, none = await shop.variant(9), await shop.variant(3), await shop.variant(0)
        id = order()
        with refused(FAILED, "OUT_OF_STOCK") as refusals:
            await shop.reserve(id, (plenty, 2), (none, 1), (few, 4))
        assert refusals[0].metadata == {
            "variant_id": none.id,
            "requested": "1",
            "available": "0",
        }
        assert refusals[0].preconditions == [
            (none.id, "lines[1]: 1 asked for, 0 available"),
            (few.id, "lines[2]: 4 asked for, 3 available"),
        ]
        assert [await shop.now(item) for item in (plenty, few, none)] == [(9, 0), (3, 0), (0, 0)]
        assert (await shop.reserve(id, (plenty, 2))).state == Reservation.ACTIVE

    async def test_what_others_hold_is_not_available(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        await shop.reserve(order(), (variant, 4))
        with refused(FAILED, "OUT_OF_STOCK") as refusals:
            await shop.reserve(order(), (variant, 2))
        assert refusals[0].metadata["available"] == "1"

    async def test_backorders_are_held_without_stock(self, shop: Stockroom) -> None:
        variant = await shop.variant(2, backorder=True)
        await shop.reserve(order(), (variant, 999))
        assert await shop.now(variant) == (2, 999)

    async def test_backorders_have_a_limit_too(
        self, shop: Stockroom, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(0, backorder=True)
        owed = StockMovement.SALE
        await shop.adjust(variant, -999_999_000, owed)
        await shop.reserve(order(), (variant, 999))
        await shop.reserve(order(), (variant, 1))
        with refused(FAILED, "OUT_OF_STOCK"):
            await shop.reserve(order(), (variant, 1))

    @pytest.mark.parametrize("state", [Product.DRAFT, Product.ARCHIVED])
    async def test_only_active_products_are_for_sale(
        self, shop: Stockroom, state: Product.State.ValueType
    ) -> None:
        shirt, hat = await shop.variants(2, 5)
        await shop.catalog.UpdateProduct(
            UpdateProductRequest(id=hat.product_id, state=state), metadata=shop.staff()
        )
        with refused(FAILED, "NOT_FOR_SALE") as refusals:
            await shop.reserve(order(), (shirt, 1), (hat, 1))
        assert refusals[0].metadata == {"variant_id": hat.id}
        assert await shop.now(shirt) == (5, 0)

    async def test_what_does_not_exist_is_not_found(self, shop: Stockroom) -> None:
        shirt = await shop.variant(5)
        for resource in ("variant", "product"):
            item: Any = {f"{resource}_id": str(uuid7())}
            request = reserve(order(), (shirt, 1))
            request.lines.add(quantity=1, **item)
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusals:
                await shop.stock.ReserveStock(request, metadata=callers.service())
            assert refusals[0].metadata == {"resource": resource, "id": item[f"{resource}_id"]}
        assert await shop.now(shirt) == (5, 0)

    async def test_an_order_has_one_currency(self, shop: Stockroom) -> None:
        euro = await shop.variant(5)
        new = NewVariant(price=Money(currency_code="USD", units=9), stock=5)
        dollar = (await shop.product(new)).variants[0]
        with refused(FAILED, "CURRENCY_MISMATCH") as refusals:
            await shop.reserve(order(), (euro, 1), (dollar, 1))
        assert refusals[0].metadata == {"currency_code": "EUR"}

    async def test_repeated_it_answers_the_same_with_the_first_prices(
        self, shop: Stockroom
    ) -> None:
        variant = await shop.variant(5)
        id = order()
        first = await shop.reserve(id, (variant, 2))
        price = Money(currency_code="EUR", units=99)
        await shop.catalog.UpdateVariant(
            UpdateVariantRequest(product_id=variant.product_id, id=variant.id, price=price),
            metadata=shop.staff(),
        )
        await shop.catalog.DeleteProduct(
            DeleteProductRequest(id=variant.product_id), metadata=shop.staff()
        )
        assert await shop.reserve(id, (variant, 2), ttl=timedelta(hours=1)) == first
        assert await shop.now(variant) == (5, 2)

    async def test_repeated_with_other_lines_it_is_refused(self, shop: Stockroom) -> None:
        variant, other = await shop.variants(2, 5)
        id = order()
        await shop.reserve(id, (variant, 2))
        for items in ([(variant, 3)], [(other, 2)], [(variant, 2), (other, 1)]):
            with refused(FAILED, "RESERVATION_MISMATCH") as refusals:
                await shop.reserve(id, *items)
            assert refusals[0].metadata == {"order_id": id}
        assert [await shop.now(item) for item in (variant, other)] == [(5, 2), (5, 0)]

    async def test_after_a_release_it_is_refused(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await shop.release(id)
        with refused(FAILED, "RESERVATION_RELEASED"):
            await shop.reserve(id, (variant, 2))

    async def test_overtaken_by_its_release_it_is_refused(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.release(id)
        with refused(FAILED, "RESERVATION_RELEASED"):
            await shop.reserve(id, (variant, 2))
        assert await shop.now(variant) == (5, 0)

    async def test_after_its_time_it_is_refused_even_before_the_sweeper_came(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await let_time_pass(owner_connection, id)
        with refused(FAILED, "RESERVATION_RELEASED"):
            await shop.reserve(id, (variant, 2))
        assert await sweeper.free_expired(served.database) == 1
        with refused(FAILED, "RESERVATION_RELEASED"):
            await shop.reserve(id, (variant, 2))

    async def test_after_the_commit_it_is_refused(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await shop.commit(id)
        with refused(FAILED, "RESERVATION_COMMITTED"):
            await shop.reserve(id, (variant, 2))

    @pytest.mark.parametrize("quantity", [0, -1, 1000, 2**31 - 1])
    async def test_a_quantity_is_1_to_999(self, shop: Stockroom, quantity: int) -> None:
        variant = await shop.variant(5)
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusals:
            await shop.reserve(order(), (variant, quantity))
        assert list(refusals[0].fields) == ["lines[0].quantity"]

    async def test_an_order_has_1_to_100_lines(self, shop: Stockroom) -> None:
        variant = await shop.variant(200)
        for lines in (0, 101):
            with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
                await shop.reserve(order(), *[(variant, 1)] * lines)
        assert len((await shop.reserve(order(), *[(variant, 2)] * 100)).lines) == 100
        assert await shop.now(variant) == (200, 200)

    async def test_what_is_sold_out_is_refused_without_a_row_being_locked(
        self, shop: Stockroom, served: Running
    ) -> None:
        variant = await shop.variant(0)
        async with served.counting() as statements:
            with refused(FAILED, "OUT_OF_STOCK"):
                await shop.reserve(order(), (variant, 1))
        assert not [text for text in statements if "INSERT" in text or "FOR UPDATE" in text]

    @pytest.mark.parametrize("lines", [1, 40])
    async def test_it_takes_two_statements_whatever_the_lines(
        self, shop: Stockroom, served: Running, lines: int
    ) -> None:
        variants = await shop.variants(lines, 1)
        id = order()
        items = [(variant, 1) for variant in variants]
        for expected in (2, 2):  # done, and found done
            async with served.counting() as statements:
                await shop.reserve(id, *items)
            assert len(statements) == expected


class TestBatchReserveStock:
    async def test_each_order_is_answered_as_if_it_had_asked_alone(self, shop: Stockroom) -> None:
        (shirt, hat), gone = await shop.variants(2, 5), await shop.variant(0)
        held, short, unknown, repeated = (order() for _ in range(4))
        first = await shop.reserve(repeated, (hat, 1))
        nobody = Variant(id=order())
        requests = [
            reserve(held, (shirt, 2), (hat, 1)),
            reserve(short, (gone, 1)),
            reserve(unknown, (nobody, 1)),
            reserve(repeated, (hat, 1)),
            reserve(repeated, (hat, 2)),
        ]
        results = await batch(shop, *requests)
        assert [result.WhichOneof("outcome") for result in results] == [
            "reservation",
            "refusal",
            "refusal",
            "reservation",
            "refusal",
        ]
        assert [(line.variant.id, line.quantity) for line in results[0].reservation.lines] == [
            (shirt.id, 2),
            (hat.id, 1),
        ]
        assert results[3].reservation == first
        for request, result in zip(requests, results, strict=True):
            if not result.HasField("refusal"):
                continue
            with pytest.raises(AioRpcError) as alone:
                await shop.stock.ReserveStock(request, metadata=callers.service())
            again = clients.error_of(result.refusal)
            assert (again.code(), again.details()) == (alone.value.code(), alone.value.details())
            both = clients.refusal(again), clients.refusal(alone.value)
            assert vars(both[0]) == vars(both[1])
        assert [await shop.now(item) for item in (shirt, hat)] == [(5, 2), (5, 2)]

    async def test_an_order_that_asks_twice_is_held_once(self, shop: Stockroom) -> None:
        shirt = await shop.variant(5)
        request = reserve(order(), (shirt, 3))
        one, other = await batch(shop, request, request)
        assert one.reservation == other.reservation
        assert await shop.now(shirt) == (5, 3)

    async def test_of_those_that_want_the_last_one_gets_it(self, shop: Stockroom) -> None:
        last, plenty = await shop.variant(1), await shop.variant(50)
        requests = [reserve(order(), (last, 1), (plenty, 1)) for _ in range(5)]
        results = await batch(shop, *requests, reserve(order(), (plenty, 1)))
        assert [result.HasField("reservation") for result in results].count(True) == 2
        assert await shop.now(last) == (1, 1)
        assert await shop.now(plenty) == (50, 2)

    async def test_it_takes_two_statements_however_many_there_are(
        self, shop: Stockroom, served: Running
    ) -> None:
        shirt = await shop.variant(50)
        requests = [reserve(order(), (shirt, 1)) for _ in range(20)]
        async with served.counting() as statements:
            await batch(shop, *requests)
        assert len(statements) == 2
        assert await shop.now(shirt) == (50, 20)

    @pytest.mark.parametrize("count", [0, 21])
    async def test_so_many_may_ask_together(self, shop: Stockroom, count: int) -> None:
        requests = [reserve(order(), (Variant(id=order()), 1)) for _ in range(count)]
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusals:
            await batch(shop, *requests)
        assert list(refusals[0].fields) == ["requests"]


class TestCommitReservation:
    async def test_the_pieces_are_taken_out_of_stock(self, shop: Stockroom) -> None:
        shirt, hat = await shop.variants(2, 5)
        id = order()
        held = await shop.reserve(id, (shirt, 2), (hat, 1), (shirt, 1))
        sold = await shop.commit(id)
        assert sold.state == Reservation.COMMITTED
        assert sold.lines == held.lines
        assert not sold.HasField("expire_time")
        assert await shop.now(shirt) == (2, 0)
        assert await shop.now(hat) == (4, 0)

    async def test_repeated_it_answers_the_same(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        assert await shop.commit(id) == await shop.commit(id)
        assert await shop.now(variant) == (3, 0)

    async def test_backorders_leave_less_than_nothing_on_hand(self, shop: Stockroom) -> None:
        variant = await shop.variant(2, backorder=True)
        id = order()
        await shop.reserve(id, (variant, 5))
        await shop.commit(id)
        assert await shop.now(variant) == (-3, 0)

    async def test_an_order_without_a_reservation_is_not_found(self, shop: Stockroom) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusals:
            await shop.commit(order())
        assert refusals[0].metadata["resource"] == "reservation"

    async def test_what_was_released_is_refused(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await shop.release(id)
        with refused(FAILED, "RESERVATION_RELEASED") as refusals:
            await shop.commit(id)
        assert refusals[0].metadata == {"order_id": id}
        assert await shop.now(variant) == (5, 0)

    async def test_time_that_is_over_does_no_harm_until_the_stock_is_free(
        self, shop: Stockroom, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(2)
        id = order()
        await shop.reserve(id, (variant, 2))
        await let_time_pass(owner_connection, id)
        assert (await shop.commit(id)).state == Reservation.COMMITTED
        assert await shop.now(variant) == (0, 0)

    async def test_an_expired_one_is_made_anew_while_there_is_stock(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(3)
        id = order()
        held = await shop.reserve(id, (variant, 2))
        await expire(served, owner_connection, id)
        await shop.reserve(order(), (variant, 1))
        await shop.catalog.DeleteProduct(
            DeleteProductRequest(id=variant.product_id), metadata=shop.staff()
        )
        sold = await shop.commit(id)
        assert (sold.state, sold.lines) == (Reservation.COMMITTED, held.lines)
        assert await shop.now(variant) == (1, 1)
        assert await shop.commit(id) == sold

    async def test_an_expired_one_is_refused_when_others_have_any_of_it(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        plenty, scarce = await shop.variant(9), await shop.variant(3)
        id = order()
        await shop.reserve(id, (plenty, 1), (scarce, 2))
        await expire(served, owner_connection, id)
        other = order()
        await shop.reserve(other, (scarce, 2))
        with refused(FAILED, "RESERVATION_EXPIRED") as refusals:
            await shop.commit(id)
        assert refusals[0].metadata == {"order_id": id}
        assert [await shop.now(item) for item in (plenty, scarce)] == [(9, 0), (3, 2)]
        await shop.release(other)
        assert (await shop.commit(id)).state == Reservation.COMMITTED

    async def test_an_expired_one_is_refused_when_a_variant_is_gone(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        product = await two_sizes(shop)
        id = order()
        await shop.reserve(id, (product.variants[0], 1), (product.variants[1], 1))
        await expire(served, owner_connection, id)
        await delete(shop, product.variants[1])
        with refused(FAILED, "RESERVATION_EXPIRED"):
            await shop.commit(id)
        assert await shop.now(product.variants[0]) == (5, 0)

    @pytest.mark.parametrize("lines", [1, 40])
    async def test_it_takes_two_statements_whatever_the_lines(
        self, shop: Stockroom, served: Running, lines: int
    ) -> None:
        id = order()
        await shop.reserve(id, *[(variant, 1) for variant in await shop.variants(lines, 1)])
        async with served.counting() as statements:
            await shop.commit(id)
        assert len(statements) == 2


class TestReleaseReservation:
    async def test_the_pieces_are_free_again(self, shop: Stockroom) -> None:
        shirt, hat = await shop.variants(2, 5)
        id = order()
        held = await shop.reserve(id, (shirt, 2), (hat, 1), (shirt, 1))
        released = await shop.release(id)
        assert (released.state, released.lines) == (Reservation.RELEASED, held.lines)
        assert [await shop.now(item) for item in (shirt, hat)] == [(5, 0), (5, 0)]
        assert len(await shop.ledger(shirt)) == 1

    async def test_repeated_it_answers_the_same(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        assert await shop.release(id) == await shop.release(id)
        assert await shop.now(variant) == (5, 0)

    async def test_an_order_without_a_reservation_is_remembered(self, shop: Stockroom) -> None:
        id = order()
        released = await shop.release(id)
        assert (released.order_id, released.state) == (id, Reservation.RELEASED)
        assert not released.lines
        assert await shop.release(id, restock=True) == released
        with refused(FAILED, "RESERVATION_RELEASED"):
            await shop.commit(id)

    async def test_an_expired_one_is_released_for_good(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await expire(served, owner_connection, id)
        assert (await shop.release(id)).state == Reservation.RELEASED
        assert await shop.now(variant) == (5, 0)
        with refused(FAILED, "RESERVATION_RELEASED"):
            await shop.commit(id)

    async def test_committed_pieces_stay_sold(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await shop.commit(id)
        with refused(FAILED, "RESERVATION_COMMITTED") as refusals:
            await shop.release(id)
        assert refusals[0].metadata == {"order_id": id}
        assert await shop.now(variant) == (3, 0)

    async def test_restocking_puts_committed_pieces_back_once(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2), (variant, 1))
        await shop.commit(id)
        released = [await shop.release(id, restock=True) for _ in range(2)]
        assert released[0] == released[1]
        assert released[0].state == Reservation.RELEASED
        assert await shop.now(variant) == (5, 0)
        assert [line.change for line in await shop.ledger(variant)] == [3, -3, 5]

    async def test_restocking_what_was_never_committed_adds_nothing(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await shop.release(id, restock=True)
        assert await shop.now(variant) == (5, 0)

    async def test_what_comes_back_pays_for_backorders(self, shop: Stockroom) -> None:
        variant = await shop.variant(0, backorder=True)
        id = order()
        await shop.reserve(id, (variant, 5))
        await shop.commit(id)
        await shop.release(id, restock=True)
        assert await shop.now(variant) == (0, 0)

    async def test_pieces_of_a_variant_that_is_gone_have_no_shelf(self, shop: Stockroom) -> None:
        product = await two_sizes(shop)
        stays, goes = product.variants
        id = order()
        await shop.reserve(id, (stays, 1), (goes, 1))
        await shop.commit(id)
        await delete(shop, goes)
        assert (await shop.release(id, restock=True)).state == Reservation.RELEASED
        assert await shop.now(stays) == (5, 0)

    @pytest.mark.parametrize("lines", [1, 40])
    async def test_it_takes_three_statements_whatever_the_lines(
        self, shop: Stockroom, served: Running, lines: int
    ) -> None:
        id = order()
        await shop.reserve(id, *[(variant, 1) for variant in await shop.variants(lines, 1)])
        async with served.counting() as statements:
            await shop.release(id)
        assert len(statements) == 3


class TestExpiry:
    async def test_what_is_abandoned_is_free_within_five_seconds(
        self, shop: Stockroom, served: Running
    ) -> None:
        variant = await shop.variant(5)
        held = await shop.reserve(order(), (variant, 3), (variant, 2), ttl=SECOND)
        sweep = tasks.every(sweeper.SECONDS_BETWEEN, lambda: sweeper.free_expired(served.database))
        sweeping = asyncio.create_task(tasks.forever("expiry", sweep))
        try:
            while await shop.now(variant) != (5, 0):
                late = datetime.now(UTC) - held.expire_time.ToDatetime(UTC)
                assert late < 5 * SECOND
                await asyncio.sleep(0.05)
        finally:
            sweeping.cancel()
        assert datetime.now(UTC) >= held.expire_time.ToDatetime(UTC)
        await shop.reserve(order(), (variant, 5))

    async def test_the_others_are_left_alone(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(9)
        due, open_, sold, released = [order() for _ in range(4)]
        for id in (due, open_, sold, released):
            await shop.reserve(id, (variant, 2))
        await shop.commit(sold)
        await shop.release(released)
        for id in (due, sold, released):
            await let_time_pass(owner_connection, id)
        assert await sweeper.free_expired(served.database) == 1
        assert await sweeper.free_expired(served.database) == 0
        assert await shop.now(variant) == (7, 2)

    async def test_one_that_a_call_is_busy_with_is_left_to_it(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(9)
        id = order()
        await shop.reserve(id, (variant, 2))
        await let_time_pass(owner_connection, id)
        async with owner_connection.transaction():
            await owner_connection.execute(
                "SELECT FROM catalog.reservations WHERE order_id = $1 FOR UPDATE", id
            )
            assert await sweeper.free_expired(served.database) == 0
        assert await sweeper.free_expired(served.database) == 1

    async def test_many_are_ended_in_batches_of_one_statement(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        one, other = await shop.variants(2, 500)
        await asyncio.gather(*(shop.reserve(order(), (one, 1), (other, 2)) for _ in range(120)))
        await owner_connection.execute(
            "UPDATE catalog.reservations SET expire_time = now() - interval '1 second'"
        )
        async with served.counting() as statements:
            assert await sweeper.free_expired(served.database) == 120
        assert len(statements) == 3
        assert [await shop.now(item) for item in (one, other)] == [(500, 0), (500, 0)]

    async def test_it_finds_what_is_due_by_the_index(
        self, owner_connection: asyncpg.Connection
    ) -> None:
        async with owner_connection.transaction():
            await owner_connection.execute("SET LOCAL enable_seqscan = off")
            await owner_connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            statement = reservation_store._EXPIRE
            plan = await owner_connection.fetch(
                f"EXPLAIN {statement.sql}", *statement.arguments({})
            )
        assert "reservations_expire_time" in str(plan)


class TestAccess:
    async def test_reservations_are_for_services(self, shop: Stockroom) -> None:
        id = order()
        for caller in (NOBODY, shop.staff(), callers.User("ADMIN")()):
            for call in (
                shop.stock.ReserveStock(reserve(id, (Variant(id=id), 1)), metadata=caller),
                shop.stock.BatchReserveStock(
                    BatchReserveStockRequest(requests=[reserve(id, (Variant(id=id), 1))]),
                    metadata=caller,
                ),
                shop.stock.CommitReservation(
                    CommitReservationRequest(order_id=id), metadata=caller
                ),
                shop.stock.ReleaseReservation(
                    ReleaseReservationRequest(order_id=id), metadata=caller
                ),
            ):
                with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
                    await call


class TestTheDatabaseItself:
    async def test_what_its_checks_refuse_is_no_internal_error(
        self, shop: Stockroom, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await owner_connection.execute("UPDATE catalog.stock SET reserved = 1")
        with refused(StatusCode.ABORTED, "TRANSACTION_CONFLICT"):
            await shop.stock.ReleaseReservation(
                ReleaseReservationRequest(order_id=id), metadata=callers.service()
            )
        await owner_connection.execute("UPDATE catalog.stock SET reserved = 2")
        assert (await shop.release(id)).state == Reservation.RELEASED


async def batch(
    shop: Stockroom, *requests: ReserveStockRequest
) -> list[BatchReserveStockResponse.Result]:
    """What becomes of requests that are sent together."""
    request = BatchReserveStockRequest(requests=requests)
    answer = await shop.stock.BatchReserveStock(request, metadata=callers.service())
    return list(answer.results)


async def two_sizes(shop: Stockroom) -> Product:
    """A product in two sizes, with five pieces of each."""
    return await shop.product(
        *(NewVariant(options={"size": size}, price=EUR_10, stock=5) for size in "ML")
    )


async def delete(shop: Stockroom, variant: Variant) -> None:
    await shop.catalog.DeleteVariant(
        DeleteVariantRequest(product_id=variant.product_id, id=variant.id), metadata=shop.staff()
    )
