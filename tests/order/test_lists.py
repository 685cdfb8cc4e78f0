"""Lists of orders: newest first, page by page, at a cost that does not grow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from services.kit import pages
from services.kit.ids import uuid7
from shop.order.v1.order_pb2 import (
    ListOrdersRequest,
    ListUserOrdersRequest,
    Order,
)
from tests.callers import User
from tests.order.shop import Shop
from tests.running import refused


async def several(shop: Shop, customer: User, count: int) -> list[str]:
    """Ids of somebody's orders, newest first."""
    lamp = await shop.product(stock=100)
    made = [(await shop.order(customer, (lamp, 1))).id for _ in range(count)]
    return made[::-1]


def moment(value: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp


class TestListUserOrders:
    async def test_pages_follow_each_other(self, shop: Shop) -> None:
        customer = await shop.customer()
        wanted = await several(shop, customer, 5)
        await several(shop, await shop.customer(), 2)
        seen: list[str] = []
        token = ""
        for size in (2, 1, 5):
            page = await shop.orders.ListUserOrders(
                ListUserOrdersRequest(user_id="me", page_size=size, page_token=token),
                metadata=customer(),
            )
            seen += [order.id for order in page.orders]
            token = page.next_page_token
        assert (seen, token) == (wanted, "")

    async def test_orders_of_one_moment_are_not_lost_between_pages(self, shop: Shop) -> None:
        customer = await shop.customer()
        wanted = await several(shop, customer, 4)
        await shop.owner.execute('UPDATE "order".orders SET create_time = now()')
        seen: list[str] = []
        token = ""
        for _ in wanted:
            page = await shop.orders.ListUserOrders(
                ListUserOrdersRequest(user_id="me", page_size=1, page_token=token),
                metadata=customer(),
            )
            seen += [order.id for order in page.orders]
            token = page.next_page_token
        assert seen == wanted

    async def test_one_status_alone(self, shop: Shop) -> None:
        customer = await shop.customer()
        first, second, _ = await several(shop, customer, 3)
        for id in (first, second):
            await shop.cancel(Order(id=id), customer)
        page = await shop.orders.ListUserOrders(
            ListUserOrdersRequest(user_id=str(customer.id), status=Order.CANCELLED),
            metadata=customer(),
        )
        assert [order.id for order in page.orders] == [first, second]

    async def test_staff_see_anybodys_and_others_nobodys(self, shop: Shop) -> None:
        customer = await shop.customer()
        wanted = await several(shop, customer, 1)
        request = ListUserOrdersRequest(user_id=str(customer.id))
        page = await shop.orders.ListUserOrders(request, metadata=shop.staff())
        assert [order.id for order in page.orders] == wanted
        assert page.orders[0].lines[0].product_name == "Lamp"
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.orders.ListUserOrders(request, metadata=User()())

    async def test_a_token_of_another_list_is_refused(self, shop: Shop) -> None:
        customer = await shop.customer()
        await several(shop, customer, 2)
        page = await shop.orders.ListUserOrders(
            ListUserOrdersRequest(user_id="me", page_size=1), metadata=customer()
        )
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await shop.orders.ListUserOrders(
                ListUserOrdersRequest(
                    user_id="me", status=Order.PAID, page_token=page.next_page_token
                ),
                metadata=customer(),
            )


class TestListOrders:
    async def test_everybodys_are_there_newest_first(self, shop: Shop) -> None:
        older = await several(shop, await shop.customer(), 2)
        newer = await several(shop, await shop.customer(), 2)
        first = await shop.orders.ListOrders(ListOrdersRequest(page_size=3), metadata=shop.staff())
        second = await shop.orders.ListOrders(
            ListOrdersRequest(page_size=3, page_token=first.next_page_token),
            metadata=shop.staff(),
        )
        assert [order.id for order in (*first.orders, *second.orders)] == newer + older

    async def test_by_status_and_time(self, shop: Shop) -> None:
        customer = await shop.customer()
        ids = await several(shop, customer, 4)
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        for number, id in enumerate(reversed(ids)):
            await shop.owner.execute(
                'UPDATE "order".orders SET create_time = $1 WHERE id = $2',
                begin + timedelta(days=number),
                id,
            )
        await shop.cancel(Order(id=ids[1]), customer)

        async def found(**fields: Any) -> list[str]:
            page = await shop.orders.ListOrders(ListOrdersRequest(**fields), metadata=shop.staff())
            return [order.id for order in page.orders]

        day = [moment(begin + timedelta(days=number)) for number in range(4)]
        assert await found(start_time=day[2]) == ids[:2]
        assert await found(end_time=day[2]) == ids[2:]
        assert await found(start_time=day[1], end_time=day[3]) == ids[1:3]
        assert await found(status=Order.CANCELLED) == [ids[1]]
        assert await found(status=Order.CANCELLED, end_time=day[2]) == []
        just_after = Timestamp(seconds=day[2].seconds, nanos=1)
        assert await found(start_time=just_after) == ids[:1]
        assert await found(end_time=just_after) == ids[1:]
        last = Timestamp(seconds=253402300799)
        assert await found(start_time=last) == []
        assert await found(end_time=last) == ids

    async def test_it_is_for_staff(self, shop: Shop) -> None:
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await shop.orders.ListOrders(ListOrdersRequest(), metadata=User()())

    async def test_a_token_of_a_time_that_there_is_not_is_harmless(self, shop: Shop) -> None:
        for micros in (-(2**63), 2**63 - 1):
            key = (micros, uuid7())
            _, token = pages.cut(ListOrdersRequest(page_size=1), [key, key], lambda row: row)
            await shop.orders.ListOrders(
                ListOrdersRequest(page_size=1, page_token=token), metadata=shop.staff()
            )


class TestCost:
    @pytest.mark.parametrize("count", [1, 7])
    async def test_a_list_is_one_statement(self, shop: Shop, count: int) -> None:
        customer = await shop.customer()
        await several(shop, customer, count)
        async with shop.parts.orders.counting() as statements:
            await shop.orders.ListUserOrders(
                ListUserOrdersRequest(user_id="me"), metadata=customer()
            )
        assert len(statements) == 1
