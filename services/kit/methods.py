"""The methods of the contract, as their protos declare them, and layers around their handlers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shop.options.v1 import access_pb2

READS = ("Get", "List", "BatchGet", "Watch")

Answer = TypeVar("Answer", bound=Message)
Handler = Callable[[Any, Any], Awaitable[Any]]


class Rendered(Protocol):
    """An answer that is at hand in the forms in which it is sent."""

    @property
    def raw(self) -> bytes:
        """The message, serialized."""

    @property
    def json(self) -> bytes:
        """The same as JSON, as `kit.proto_json` writes it."""

    @property
    def tag(self) -> str:
        """What names it: another answer of the method has another (see `kit.conditional`)."""


# The answer to a request as it was sent, serialized, if it is remembered.
Recall = Callable[[bytes], Rendered | None]


@dataclass(frozen=True)
class Method:
    """A method as its proto declares it, and what its service remembers of it.

    `recall` tells what anybody without a token is answered.
    """

    path: str
    name: str
    access: access_pb2.Access.ValueType
    ignores_credentials: bool
    checks_session: bool
    request: type[Message]
    answer: type[Message]
    streams: bool = False
    cacheable: bool = False
    recall: Recall | None = None

    @classmethod
    def of(cls, descriptor: MethodDescriptor, recall: Recall | None = None) -> Method:
        """Read the options of `shop/options/v1/access.proto`."""
        options = descriptor.GetOptions().Extensions
        return cls(
            path=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
            name=descriptor.name,
            access=options[access_pb2.access],
            ignores_credentials=options[access_pb2.ignores_credentials],
            checks_session=options[access_pb2.checks_session],
            request=GetMessageClass(descriptor.input_type),
            answer=GetMessageClass(descriptor.output_type),
            streams=descriptor.server_streaming,
            cacheable=options[access_pb2.cacheable],
            recall=recall,
        )

    @property
    def reads(self) -> bool:
        """Whether the method changes nothing (AIP-131, AIP-132): the standard verbs tell."""
        return self.name.startswith(READS)


def written(stream: Callable[[Any, Any], AsyncGenerator[Any, None]]) -> Handler:
    """A handler that streams its answers, as one that layers can be put around.

    Each answer is written before the next is asked for: a slow client makes the handler wait.
    """

    async def write(request: Any, context: Any) -> None:
        async with aclosing(stream(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)

    return write


def rendered(kind: type[Answer], answer: Rendered) -> Answer:
    """What the handler of a cacheable method answers when it has the message rendered already."""
    return cast(Answer, answer)


Layer = Callable[[Method, Handler], Handler]


def compose(method: Method, handler: Handler, layers: Sequence[Layer]) -> Handler:
    """`handler` inside all `layers`, the first of them outermost."""
    for layer in reversed(layers):
        handler = layer(method, handler)
    return handler
