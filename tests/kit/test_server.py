"""The server: health that tells the truth, reflection, a drain, and ports that are not shared."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.kit import interceptors
from services.kit.db import Database
from services.kit.server import LIVE, Server
from services.kit.settings import SettingsError
from tests.kit.schema import metadata
from tests.kit.serving import Served, always_ready, authenticator, serving
from tests.kit.things import SERVICE, Thing
from tests.kit.waiting import AT_ONCE, until

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Switch:
    """A readiness that the test turns on and off."""

    def __init__(self, *, on: bool) -> None:
        self.on = on

    async def __call__(self) -> bool:
        return self.on


async def health(served: Served, service: str = "") -> Any:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    return (await stub.Check(request, timeout=2)).status


async def health_is(served: Served, wanted: Any) -> None:
    async with asyncio.timeout(2 * AT_ONCE):
        while await health(served) != wanted:
            await asyncio.sleep(0.02)


class TestHealth:
    async def test_it_follows_readiness_for_all_names(self) -> None:
        ready = Switch(on=True)
        async with serving(ready=ready) as served:
            await health_is(served, SERVING)
            assert await health(served, SERVICE) == SERVING
            ready.on = False
            await health_is(served, NOT_SERVING)
            assert await health(served, SERVICE) == NOT_SERVING
            ready.on = True
            await health_is(served, SERVING)

    async def test_a_process_is_alive_also_when_it_is_not_ready(self) -> None:
        """What restarts processes must not restart all of them while Postgres is away."""
        async with serving(ready=Switch(on=False)) as served:
            await health_is(served, NOT_SERVING)
            assert await health(served, LIVE) == SERVING

    async def test_nothing_is_promised_before_readiness_is_known(self) -> None:
        async def thinking() -> bool:
            await asyncio.sleep(60)
            return True

        async with serving(ready=thinking) as served:
            assert await health(served) == NOT_SERVING
            assert await health(served, SERVICE) == NOT_SERVING

    async def test_readiness_that_fails_is_none_and_asked_again(self) -> None:
        answers: list[bool | None] = [None, None, True]

        async def broken() -> bool:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer is None:
                raise ValueError("a bug")
            return answer

        async with serving(ready=broken) as served:
            assert await health(served) == NOT_SERVING
            await health_is(served, SERVING)

    async def test_another_name_is_unknown(self) -> None:
        async with serving() as served:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await health(served, "shop.nothing.v1")
            assert raised.value.code() == StatusCode.NOT_FOUND

    async def test_while_postgres_is_away_it_does_not_serve(
        self, url: str, postgres_url: str, owner_connection: asyncpg.Connection
    ) -> None:
        name = url.rpartition("/")[2]
        async with asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as elsewhere:
            database = await Database.open(url, metadata, name="away")
            async with serving(database) as served:
                await health_is(served, SERVING)
                await elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                try:
                    await elsewhere.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'away'"
                    )
                    await health_is(served, NOT_SERVING)
                finally:
                    await elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
                await health_is(served, SERVING)
            await database.close()

    async def test_a_process_that_is_full_is_not_dead(self) -> None:
        async with serving(concurrent_rpcs=2) as served:
            await health_is(served, SERVING)
            waiting = Waiting(served)
            held = [served.stub.GetThing(Thing(), timeout=20) for _ in range(10)]
            await until(lambda: waiting.started == 2)
            assert await health(served) == SERVING
            waiting.go_on.set()
            await asyncio.gather(*held, return_exceptions=True)


class Waiting:
    """Has GetThing wait until it may go on; knows how many began."""

    def __init__(self, served: Served) -> None:
        self.started = 0
        self.go_on = asyncio.Event()
        served.things.behaviour["GetThing"] = self

    async def __call__(self, request: Any) -> Any:
        self.started += 1
        await self.go_on.wait()
        return request


class TestReflection:
    async def _ask(self, served: Served, **request: Any) -> Any:
        channel: Any = served.channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(**request)])
        return await anext(aiter(stub.ServerReflectionInfo(asked, timeout=2)))

    async def test_it_lists_the_services(self) -> None:
        async with serving() as served:
            answer = await self._ask(served, list_services="")
            names = {service.name for service in answer.list_services_response.service}
        assert names == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    async def test_it_describes_them(self) -> None:
        async with serving() as served:
            answer = await self._ask(served, file_containing_symbol=SERVICE)
            files = answer.file_descriptor_response.file_descriptor_proto
        file = descriptor_pb2.FileDescriptorProto.FromString(files[0])
        assert file.service[0].name == "ThingService"


class TestStop:
    async def test_calls_in_flight_finish_and_new_ones_go_elsewhere(self) -> None:
        async with serving(drain_seconds=2) as served:
            waiting = Waiting(served)
            running = served.stub.GetThing(Thing(id="1"), timeout=20)
            await until(lambda: waiting.started == 1)
            stopping = asyncio.create_task(served.server.stop())
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                while True:
                    await served.stub.CreateThing(Thing(), timeout=2)
            # gRPC cancels what arrives in the very moment of the shutdown.
            assert raised.value.code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
            waiting.go_on.set()
            assert (await running).id == "1"
            await asyncio.wait_for(stopping, AT_ONCE)

    async def test_calls_that_take_too_long_are_ended(self) -> None:
        async with serving(drain_seconds=0.2) as served:
            waiting = Waiting(served)
            running = served.stub.GetThing(Thing(), timeout=20)
            await until(lambda: waiting.started == 1)
            began = time.monotonic()
            await served.server.stop()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await running
            assert time.monotonic() - began < AT_ONCE
            assert raised.value.code() == StatusCode.UNAVAILABLE

    async def test_background_work_runs_beside_the_calls_and_ends_after_them(self) -> None:
        told: list[str] = []

        async def work() -> None:
            told.append("began")
            try:
                await asyncio.sleep(60)
            finally:
                told.append("ended")

        layers = interceptors.stack(authenticator(), secrets=[b"secret"])
        server = Server("127.0.0.1:0", layers, ready=always_ready, drain_seconds=0)
        server.background("work", work)
        await server.start()
        await until(lambda: told == ["began"])
        await server.stop()
        assert told == ["began", "ended"]


class TestPorts:
    async def test_two_servers_do_not_share_one(self) -> None:
        async with serving() as served:
            with pytest.raises(SettingsError, match="is the port taken"):
                Server(f"127.0.0.1:{served.server.port}", [], ready=always_ready)

    @pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http", ""])
    async def test_what_is_no_address_is_refused(self, listen: str) -> None:
        with pytest.raises(SettingsError, match="is not host:port"):
            Server(listen, [], ready=always_ready)

    async def test_streams_of_requests_are_not_served_by_mistake(self) -> None:
        def register(_: Any, server: Any) -> None:
            stream: Any = grpc.stream_unary_rpc_method_handler(lambda requests, context: None)
            server.add_registered_method_handlers(SERVICE, {"GetThing": stream})

        async with serving() as served:
            with pytest.raises(NotImplementedError, match="takes a stream"):
                served.server.add(register, None)
