"""A service as the edge sees it: answers every method, and keeps what it was asked."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cli.edge import DESCRIPTORS
from services.kit import proto_json
from services.kit.conditional import CAME_AS_REST, TAKES_JSON

Context = grpc.aio.ServicerContext[Any, Any]
Answer = Callable[[Any, Context], Awaitable[Message | None]]


@dataclass(frozen=True)
class Call:
    """One call as it arrived; `seconds` is what its deadline left."""

    path: str
    request: Any
    metadata: dict[str, str | bytes]
    seconds: float | None


@dataclass
class Backend(grpc.GenericRpcHandler):
    """Answers with an empty message, or what `answers` has for the method's name, and in JSON where
    the edge takes that.

    Fetches of keys, which the edge makes when it likes, are counted apart.
    """

    key_fetches: int = 0
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    server: Any = None

    @property
    def last(self) -> Call:
        """The latest call."""
        return self.calls[-1]

    def forget(self) -> None:
        """Be as new, apart from publishing keys."""
        self.calls.clear()
        for name in set(self.answers) - {"GetJwks"}:
            del self.answers[name]

    async def start(self, port: int) -> None:
        """Serve on a loopback port, and be healthy."""
        # As the services do: more metadata than the edge lets through.
        options = [("grpc.so_reuseport", 0), ("grpc.max_metadata_size", 64 * 1024)]
        server = self.server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((self,))
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        reflection.enable_server_reflection([reflection.SERVICE_NAME], server)
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        await server.start()

    async def stop(self) -> None:
        """Break off what is running and close the port, unless that has been done."""
        server, self.server = self.server, None
        if server is not None:
            await server.stop(None)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The handler of a method, None for methods of other people."""
        _, service, name = details.method.split("/")
        if not service.startswith("shop."):
            return None
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        empty = GetMessageClass(method.output_type)

        async def handle(request: Message, context: Context) -> Any:
            metadata = dict(context.invocation_metadata() or ())
            if name == "GetJwks":
                self.key_fetches += 1
            else:
                call = Call(details.method, request, metadata, context.time_remaining())
                self.calls.append(call)
            answer = await self.answers[name](request, context) if name in self.answers else None
            answer = answer if answer is not None else empty()
            if metadata.keys() >= {CAME_AS_REST, TAKES_JSON}:
                json = proto_json.writer(type(answer))(answer)
                return HttpBody(content_type="application/json", data=json)
            return answer

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


def load_contract() -> None:
    """Import all generated modules, so that the descriptor pool knows every method."""
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        if file.name.startswith("shop/"):
            importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
