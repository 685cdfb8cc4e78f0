"""Random requests, made from descriptors alone, and what no answer to them may show.

Most fields are plausible by their rules, so that requests come through validation and meet handlers
and SQL; the rest are what attackers and broken programs send.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.ids import uuid7

PLAUSIBLE = 0.85
DEEPEST = 4

HOSTILE_STRINGS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x1b[31m\r\n\t\x7f",
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    "\\'); select pg_sleep(9)--",
    "%s%s%n {0} {} ${x} {{7*7}} $(id) `id`",
    "../../../../etc/passwd",
    "..%2f..%2f",
    "\u202eneila\u202c \ufeff\u2028\u0000",
    "\U0001f9d1\u200d\U0001f680" * 20,
    "e\u0301\u0328" * 50,
    "ﷺ" * 30,
    "\u0130\u0131\u017f\u212a",
    "x" * 300,
    "é" * 2000,
    "-1",
    "1e999",
    "NaN",
    "null",
    "[" * 200,
    '{"a": {"b": []}}',
    "WyJhYmMiLDEsMl0",
    "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "{01234567-89ab-cdef-0123-456789abcdef}",
    "me",
    "*",
    "4111111111111111",
]
HOSTILE_NUMBERS = [0, 1, -1, 2, 999, 1000, 1001, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]
SIZES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

# Of our program, its libraries, its database: none of it is a client's business. What a request may
# hold, and an answer repeat, is not among it.
INSIDES = re.compile(
    r"Traceback|\.py\b|site-packages|asyncpg|sqlalchemy|argon2|protobuf|protovalidate|psycopg|uvloop"
    r"|<class |<function | object at 0x|\b[A-Z]\w+(?:Error|Exception)\b|\basync def\b"
    r"|\b(?:SELECT|INSERT|UPDATE|DELETE FROM|FROM|WHERE|RETURNING)\b|constraint|relation|violates"
    r"|\bUUID\("
    rf"|{re.escape(str(Path(__file__).resolve().parents[1]))}|/usr/|/root|/home",
)
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


@dataclass
class Fuzzer:
    """Makes requests. The same seed makes the same ones."""

    seed: int
    words: list[str] = field(default_factory=list)
    """Strings that mean something to the service: ids, addresses, tokens."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def request(self, method: MethodDescriptor) -> bytes:
        """A request of the method; now and then it is no message at all."""
        if self.random.random() < 0.01:
            return self.random.randbytes(self.random.randrange(1, 200))
        message = GetMessageClass(method.input_type)()
        self._fill(message, 0)
        return message.SerializeToString()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Headers that clients may send: mostly none."""
        kind = self.random.random()
        if kind < 0.8:
            return ()
        printable = self.random.choices(
            string.printable[:94] + " ", k=self.random.choice([0, 9, 400])
        )
        name = (
            "idempotency-key" if kind < 0.95 else self.random.choice(["x-request-id", "x-user-id"])
        )
        return ((name, "".join(printable).strip()),)

    def _fill(self, message: Any, depth: int) -> None:
        for one in message.DESCRIPTOR.fields:
            if self._rules(one).required or self.random.random() < 0.7:
                self._set(message, one, depth)

    def _set(self, message: Any, one: FieldDescriptor, depth: int) -> None:
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            key, value = one.message_type.fields
            for _ in range(self.random.choice([1, 2, 3, 60])):
                if value.message_type is None:
                    getattr(message, one.name)[self._scalar(key)] = self._scalar(value)
        elif one.is_repeated:
            for _ in range(self.random.choice([1, 1, 2, 3, 40])):
                if one.message_type is None:
                    getattr(message, one.name).append(self._scalar(one))
                else:
                    self._fill_message(getattr(message, one.name).add(), depth)
        elif one.message_type is None:
            setattr(message, one.name, self._scalar(one))
        else:
            getattr(message, one.name).SetInParent()
            self._fill_message(getattr(message, one.name), depth)

    def _fill_message(self, message: Any, depth: int) -> None:
        known = KNOWN_MESSAGES.get(message.DESCRIPTOR.full_name)
        if known is not None and self.random.random() < PLAUSIBLE:
            known(self, message)
        elif depth < DEEPEST:
            self._fill(message, depth + 1)

    def _scalar(self, one: FieldDescriptor) -> Any:
        plausible = self.random.random() < PLAUSIBLE
        match one.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if one.type == FieldDescriptor.TYPE_BYTES:
                return self.random.randbytes(self.random.choice([0, 1, 16, 32, 500]))
            case FieldDescriptor.CPPTYPE_STRING:
                return self._plausible(one) if plausible else self.random.choice(HOSTILE_STRINGS)
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.random.random() < 0.5
            case FieldDescriptor.CPPTYPE_ENUM:
                assert one.enum_type is not None
                numbers = [value.number for value in one.enum_type.values]
                return self.random.choice(numbers if plausible else [99, -1, 2**31 - 1])
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                return self.random.choice([0.0, -1.5, 1e300, float("nan"), float("inf")])
        low, high = SIZES[one.cpp_type]
        number = self.random.randint(1, 20) if plausible else self.random.choice(HOSTILE_NUMBERS)
        return min(max(number, low), high)

    def _plausible(self, one: FieldDescriptor) -> str:
        """A string that most likely keeps the field's rules."""
        rules = self._rules(one).string
        if rules.email or one.name == "email":
            address = f"{uuid7().hex}@example.com"
            return self.random.choice([address, *(word for word in self.words if "@" in word)])
        if rules.uuid or one.name == "id" or one.name.endswith("_id"):
            ids = [word for word in self.words if word.count("-") == 4]
            return self.random.choice([str(uuid7()), "me", *ids, *ids])
        if one.name == "etag":
            return self.random.choice(["", "", "v1", "v2", "v0", '"v1"', 'W/"v1"'])
        if one.name == "page_token":
            return ""
        if one.name == "phone":
            return "+44 20 7946 0000"
        if self.words and self.random.random() < 0.3:
            return self.random.choice(self.words)
        length = max(rules.min_len, self.random.choice([1, 8, 20, 60]))
        return "".join(self.random.choices(string.ascii_letters + " é-_.", k=int(length)))

    def _rules(self, one: FieldDescriptor) -> Any:
        return one.GetOptions().Extensions[validate_pb2.field]


def _mask(fuzzer: Fuzzer, message: Any) -> None:
    names = ["*", "email", "full_name", "phone", "postal_address", "name", "price", "state", "slug"]
    message.paths.extend(fuzzer.random.sample(names, k=fuzzer.random.randint(0, 3)))


def _money(fuzzer: Fuzzer, message: Any) -> None:
    message.currency_code = fuzzer.random.choice(["EUR", "EUR", "USD", "JPY", "XXX"])
    message.units = fuzzer.random.choice([0, 1, 20, 10**6])
    message.nanos = fuzzer.random.choice([0, 0, 500_000_000, 1])


def _postal_address(fuzzer: Fuzzer, message: Any) -> None:
    message.region_code = fuzzer.random.choice(["GB", "DE", "XX"])
    message.address_lines.append("221b Baker Street")
    message.locality = fuzzer.random.choice(["", "London"])


KNOWN_MESSAGES: dict[str, Callable[[Fuzzer, Any], None]] = {
    "google.protobuf.FieldMask": _mask,
    "google.type.Money": _money,
    "google.type.PostalAddress": _postal_address,
}


@dataclass(frozen=True)
class Answer:
    """How a call ended, with everything that the client was told in words."""

    code: grpc.StatusCode
    text: str


async def ask(
    channel: grpc.aio.Channel,
    method: MethodDescriptor,
    request: bytes,
    metadata: Sequence[tuple[str, str]],
) -> Answer:
    """Make a call with a request as it is, which need not be one."""
    service = method.containing_service
    assert service is not None
    streams = method.server_streaming
    call: Any = (channel.unary_stream if streams else channel.unary_unary)(
        f"/{service.full_name}/{method.name}"
    )
    try:
        answer = call(request, metadata=metadata, timeout=10)
        await (answer.read() if streams else answer)  # of a stream, the first message is enough
        answer.cancel()
    except grpc.aio.AioRpcError as error:
        trailing = " ".join(
            value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for _, value in error.trailing_metadata() or ()
        )
        return Answer(error.code(), f"{error.details()} {trailing}")
    return Answer(grpc.StatusCode.OK, "")


def complaint(answer: Answer) -> str:
    """What is wrong with an answer; "" for nothing."""
    if answer.code in NEVER:
        return f"{answer.code.name}: {answer.text}"
    shown = INSIDES.search(answer.text)
    return f"{shown.group()!r} in {answer.text!r}" if shown else ""


def show(method: MethodDescriptor, request: bytes) -> str:
    """A request as people read it, to be put into a test of its own."""
    message: Message = GetMessageClass(method.input_type)()
    try:
        message.ParseFromString(request)
    except Exception:
        return f"{method.full_name} {request!r}"
    return f"{method.full_name} {message}"
