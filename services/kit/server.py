"""A gRPC server: methods in layers, health that means readiness, reflection, drain at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from services.kit import call, failures, interceptors, logs, tasks
from services.kit.auth import Authenticator
from services.kit.interceptors import Layer, Method
from services.kit.methods import Recall, written
from services.kit.settings import ServiceSettings, SettingsError, host_and_port

log = logs.logger("server")

# Bodies over 64 KiB are refused at the edge; batches between services may be larger.
LARGEST_MESSAGE = 1 << 20
PROBE_SECONDS = 0.5
# Under this name health says that the process is alive, whatever its database does.
LIVE = "live"
# So long without a call is taken for the end of them, once clients have been told.
QUIET_SECONDS = 0.05
# Until then the edge has seen by its health checks that it has to call somebody else: three of
# them, half a second apart, on a busy machine.
TELLING_SECONDS = 2.0
# Who has not been called for so long has nobody to tell.
FORGOTTEN_SECONDS = 10.0

OPTIONS = [
    # Two processes must never share a port silently.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    # More than the edge lets through (24 KB, and the path twice): past it, gRPC's own refusal names
    # the headers of the call.
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class _Registry:
    """Takes the place of a server in `add_…_to_server`, and keeps what is registered."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same handlers come by name below."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.services[service] = handlers


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a call by its path."""

    def __init__(self) -> None:
        self.by_path: dict[str, Any] = {}

    def service(self, details: Any) -> Any:
        """The handler, or None.

        gRPC makes Python of the metadata for this, and would make it again for each layer that asks
        the context: a microsecond for each header.
        """
        handler = self.by_path.get(details.method)
        if handler is not None:
            call.came(details.invocation_metadata)
        return handler


class Server:
    """One process of one service."""

    def __init__(
        self,
        listen: str,
        layers: list[Layer],
        *,
        ready: Callable[[], Awaitable[bool]],
        concurrent_rpcs: int = 256,
        drain_seconds: float = 5.0,
        telling_seconds: float = 0.0,
    ) -> None:
        """`ready` tells whether calls can be answered now; it is asked twice a second.

        At its end it goes on for `telling_seconds` at least, half of `drain_seconds` at most, until
        those who call it have been told not to.

        Raises SettingsError when `listen` is no address, or is taken.
        """
        self._layers = layers
        self._ready = ready
        self._drain_seconds = drain_seconds
        self._telling_seconds = telling_seconds
        # Above what the layer `limit` refuses politely, so that health checks still get through.
        most = 2 * concurrent_rpcs + 64
        self._handlers = _Handlers()
        self._server = grpc.aio.server(
            handlers=[self._handlers], maximum_concurrent_rpcs=most, options=OPTIONS
        )
        self._names: list[str] = []
        self._last_call = 0.0
        self._work: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ends: list[Callable[[], None]] = []
        self._health = health.aio.HealthServicer()
        host_and_port(listen)  # gRPC would take port 99999 for 34463, and none for 443
        try:
            self.port = self._server.add_insecure_port(listen)
        except RuntimeError:
            raise SettingsError(f"Cannot listen on {listen}: is the port taken?") from None

    @classmethod
    def of(
        cls,
        settings: ServiceSettings,
        auth: Authenticator,
        *,
        ready: Callable[[], Awaitable[bool]],
        refuse_card_numbers: bool = True,
    ) -> Server:
        """A server as the settings describe it, with all layers around its methods."""
        layers = interceptors.stack(
            auth,
            secrets=[secret.encode() for secret in settings.service_secrets()],
            concurrent_rpcs=settings.concurrent_rpcs,
            refuse_card_numbers=refuse_card_numbers,
        )
        return cls(
            settings.listen,
            layers,
            ready=ready,
            concurrent_rpcs=settings.concurrent_rpcs,
            drain_seconds=settings.drain_seconds,
            telling_seconds=TELLING_SECONDS,
        )

    def add(self, register: Callable[[Any, Any], None], servicer: Any, **recalls: Recall) -> None:
        """Serve `servicer`; `register` is the generated `add_…Servicer_to_server`.

        `recalls` has what is remembered of the answers of a method, by its name.
        """
        registry = _Registry()
        register(servicer, registry)
        for service, handlers in registry.services.items():
            descriptor = descriptor_pool.Default().FindServiceByName(service)
            for name, handler in handlers.items():
                method = Method.of(descriptor.methods_by_name[name], recalls.get(name))
                self._handlers.by_path[method.path] = self._wrap(method, handler)
            self._names.append(service)

    def _wrap(self, method: Method, handler: Any) -> Any:
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                interceptors.compose(method, written(handler.unary_stream), self._layers),
                request_deserializer=None,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_unary is None:
            raise NotImplementedError(f"{method.path} takes a stream of requests")
        answer = interceptors.compose(method, handler.unary_unary, self._layers)
        serialize = handler.response_serializer

        async def answer_and_tell(raw: bytes, context: Any) -> Any:
            self._last_call = time.monotonic()
            return await answer(raw, context)

        return grpc.unary_unary_rpc_method_handler(
            answer_and_tell,
            request_deserializer=None,  # the layer `validate` reads it
            # A read may answer what it has serialized before.
            response_serializer=lambda said: said if type(said) is bytes else serialize(said),
        )

    def when_draining(self, end: Callable[[], None]) -> None:
        """Have `end` called when the server stops taking calls, to end streams that are open."""
        self._ends.append(end)

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` beside the calls for as long as the server runs."""
        self._work.append((name, work))

    async def start(self) -> None:
        """Listen. Calls are answered from now on; health says NOT_SERVING until `ready` does."""
        for name in ("", *self._names):
            await self._health.set(name, HealthCheckResponse.NOT_SERVING)
        await self._health.set(LIVE, HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        await self._server.start()
        self._tasks = [asyncio.create_task(self._probe())] + [
            asyncio.create_task(tasks.forever(name, work)) for name, work in self._work
        ]

    async def stop(self) -> None:
        """Stop taking calls, let those in flight finish, end the background work."""
        until = time.monotonic() + self._drain_seconds
        await self._health.enter_graceful_shutdown()
        for end in self._ends:
            end()
        await self._wait_for_quiet(self._drain_seconds / 2)
        await self._server.stop(max(0.0, until - time.monotonic()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait_for_quiet(self, seconds: float) -> None:
        """Wait for a moment in which nobody calls: gRPC cancels what has come in by the end and has
        no handler yet.
        """
        began = told = time.monotonic()
        if self._last_call and began - self._last_call < FORGOTTEN_SECONDS:
            told += self._telling_seconds
        while True:
            quiet = max(told, self._last_call + QUIET_SECONDS, began + QUIET_SECONDS)
            pause = min(quiet, began + seconds) - time.monotonic()
            if pause <= 0:
                return
            await asyncio.sleep(pause)

    async def run(self) -> None:
        """Start, and stop at SIGTERM or SIGINT."""
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        await self.start()
        log.info("serving", port=self.port)
        await asked.wait()
        log.info("draining")
        await self.stop()

    async def _probe(self) -> None:
        shown = None
        while True:
            status = (
                HealthCheckResponse.SERVING
                if await self._is_ready()
                else HealthCheckResponse.NOT_SERVING
            )
            if status != shown:
                log.info("health", status=HealthCheckResponse.ServingStatus.Name(status))
                for name in ("", *self._names):
                    await self._health.set(name, status)
                shown = status
            await asyncio.sleep(PROBE_SECONDS)

    async def _is_ready(self) -> bool:
        try:
            return await self._ready()
        except Exception as error:
            failures.report(log, "readiness is not known", error)
            return False
