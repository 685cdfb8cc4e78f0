"""Where mail about an order goes: what the token tells, unless the user has changed since."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from grpc import StatusCode

from shop.users.v1.users_pb2 import (
    DeleteUserRequest,
    SetUserDisabledRequest,
    UpdateUserRequest,
    User as Account,
)
from tests.callers import User
from tests.order.shop import Shop
from tests.running import refused

FRESH_SECONDS = 1.0


async def change(shop: Shop, customer: User) -> None:
    """Have the customer another address, and wait until that is news for everybody."""
    await shop.users.UpdateUser(
        UpdateUserRequest(id=str(customer.id), email=f"new-{customer.email}"),
        metadata=User("ADMIN")(),
    )
    await asyncio.sleep(FRESH_SECONDS)


async def test_the_token_tells_so_users_are_not_asked(shop: Shop) -> None:
    customer = await shop.customer()
    product = await shop.product()
    await shop.order(customer, (product, 1))
    shop.parts.calls.clear()
    order = await shop.order(customer, (product, 1))
    assert order.email == customer.email
    assert "BatchGetContacts" not in shop.parts.calls


async def test_many_orders_share_the_question_who_has_changed(shop: Shop) -> None:
    customer = await shop.customer()
    product = await shop.product(stock=100)
    shop.parts.calls.clear()
    await asyncio.gather(*(shop.order(customer, (product, 1)) for _ in range(10)))
    assert shop.parts.calls.count("GetChangedUsers") < 10


async def test_an_address_that_has_changed_is_asked_for(shop: Shop) -> None:
    customer = await shop.customer()
    product = await shop.product()
    await shop.order(customer, (product, 1))
    await change(shop, customer)
    order = await shop.order(customer, (product, 1))
    assert order.email == f"new-{customer.email}"


async def test_who_is_disabled_or_deleted_orders_nothing(shop: Shop) -> None:
    product = await shop.product()
    stopped, gone = [await shop.customer() for _ in range(2)]
    for customer in (stopped, gone):
        await shop.order(customer, (product, 1))
    account: Account = await shop.users.SetUserDisabled(
        SetUserDisabledRequest(id=str(stopped.id), disabled=True), metadata=User("ADMIN")()
    )
    assert account.disabled
    await shop.users.DeleteUser(DeleteUserRequest(id="me"), metadata=gone())
    await asyncio.sleep(FRESH_SECONDS)
    for customer in (stopped, gone):
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await shop.order(customer, (product, 1))


async def test_a_token_that_does_not_tell_will_do(shop: Shop) -> None:
    customer = await shop.customer()
    order = await shop.order(replace(customer, email=None), (await shop.product(), 1))
    assert order.email == customer.email
