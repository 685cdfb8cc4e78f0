"""Who may call what: the access option of each method, against every kind of caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from services.kit import call, errors
from shop.errors.v1 import reason_pb2
from shop.options.v1 import access_pb2
from tests.callers import NOBODY, Metadata, User, service
from tests.kit.serving import Served, serving
from tests.kit.things import SERVICE, Thing
from tests.running import refused

PERMITTED = {
    "GetThing": {"nobody", "customer", "staff", "admin", "service"},
    "SignIn": {"nobody", "customer", "staff", "admin", "service"},
    "TouchThing": {"customer", "staff", "admin"},
    "OwnThing": {"customer", "staff", "admin"},
    "StaffThing": {"staff", "admin"},
    "AdminThing": {"admin"},
    "SessionThing": {"staff", "admin"},
    "ServiceThing": {"service"},
    "UndeclaredThing": set(),
}
CALLERS: dict[str, Callable[[], Metadata]] = {
    "nobody": lambda: NOBODY,
    "customer": User("CUSTOMER"),
    "staff": User("STAFF"),
    "admin": User("ADMIN"),
    "service": service,
}


class TestAuthenticate:
    @pytest.mark.parametrize("caller", CALLERS)
    @pytest.mark.parametrize("method", PERMITTED)
    async def test_the_access_option_decides_who_may_call(
        self, served: Served, method: str, caller: str
    ) -> None:
        calling = getattr(served.stub, method)(Thing(), metadata=CALLERS[caller]())
        if caller in PERMITTED[method]:
            await calling
            return
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await calling
        known = caller in ("customer", "staff", "admin") and method != "ServiceThing"
        undeclared = method == "UndeclaredThing"
        assert raised.value.code() == (
            StatusCode.PERMISSION_DENIED if known or undeclared else StatusCode.UNAUTHENTICATED
        )

    async def test_a_method_without_an_access_option_is_closed(self, served: Served) -> None:
        with refused(StatusCode.PERMISSION_DENIED, "ACCESS_UNDECLARED") as held:
            await served.stub.UndeclaredThing(Thing(), metadata=CALLERS["admin"]())
        assert held[0].metadata == {"method": f"/{SERVICE}/UndeclaredThing"}

    async def test_the_role_that_is_missing_is_named(self, served: Served) -> None:
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED") as held:
            await served.stub.AdminThing(Thing(), metadata=CALLERS["staff"]())
        assert held[0].metadata == {"role": "ADMIN"}

    async def test_a_bad_token_is_refused_where_none_is_needed(self, served: Served) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"):
            await served.stub.GetThing(Thing(), metadata=(("authorization", "Bearer bad"),))

    async def test_a_method_may_ignore_credentials(self, served: Served) -> None:
        await served.stub.SignIn(Thing(), metadata=(("authorization", "Bearer bad"),))

    async def test_a_user_is_not_a_service(self, served: Served) -> None:
        user = User("ADMIN")
        token = user()[0][1].removeprefix("Bearer ")
        with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
            await served.stub.ServiceThing(Thing(), metadata=(("x-shop-service-token", token),))

    async def test_a_service_that_speaks_for_a_user_is_a_service(self, served: Served) -> None:
        seen: list[call.Caller] = []

        async def look(request: Any) -> Any:
            seen.append(call.caller())
            return request

        served.things.behaviour["ServiceThing"] = look
        await served.stub.ServiceThing(Thing(), metadata=(*User()(), *service("cart")))
        assert seen[0].service == "cart"

    async def test_permission_is_asked_before_the_request_is_judged(self, served: Served) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            await served.stub.StaffThing(Thing(text="\0"))

    async def test_a_role_that_was_taken_away_ends_with_the_session_check(self) -> None:
        async def now_a_customer(caller: call.Caller) -> call.Caller:
            return call.Caller(caller.user_id, access_pb2.ACCESS_CUSTOMER, caller.session_id)

        async with serving(check_session=now_a_customer) as served:
            await served.stub.StaffThing(Thing(), metadata=CALLERS["staff"]())
            with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
                await served.stub.SessionThing(Thing(), metadata=CALLERS["staff"]())

    async def test_a_session_that_has_ended_is_told(self) -> None:
        async def over(caller: call.Caller) -> call.Caller:
            raise errors.unauthenticated(reason_pb2.REASON_SESSION_ENDED, "over")

        async with serving(check_session=over) as served:
            with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
                await served.stub.SessionThing(Thing(), metadata=CALLERS["staff"]())
