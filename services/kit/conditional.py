"""Conditional calls (RFC 9110, section 13): 304 for what a client has, `if-match` for changes.

A read that the contract calls cacheable answers REST clients with an `etag` header. It names what
was answered, and begins with the resource's own etag where there is one: a product's etag does not
change with its stock, what is answered does. So the same header serves `if-none-match`, which looks
at all of it, and `if-match`, which looks at the beginning, as does the field `etag` of a request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from services.kit import call, errors, proto_json
from services.kit.etags import opaque
from services.kit.methods import Handler, Method, Rendered
from shop.errors.v1 import reason_pb2

# Set by the edge's transcoder, which takes it from clients: the call came as REST.
CAME_AS_REST = "x-envoy-original-path"
# Set by an edge whose transcoder takes answers of cacheable methods as JSON, in an HttpBody
# (`cli/edge_contract.py`). It would make JSON of the message each time; here that is kept with what
# is remembered.
TAKES_JSON = "x-shop-json"
# Asks the edge for an HTTP status.
HTTP_CODE = "x-http-code"
# A price that is some seconds old does no harm: carts and orders look at the price of the moment.
PUBLIC = "public, max-age=5, stale-while-revalidate=30"
# The second is the edge's, which leaves it out of a 304 (RFC 9110, 15.4.5).
VARY = "authorization, Accept-Encoding"

# The edge keeps the JSON of an answer of up to so many bytes until its trailers have come, and
# makes headers of them (`rest_status`). What stands there travels with the answer; what is sent in
# front of it is a write to the socket, and a wait, by itself. Where the edge makes the JSON, it is
# expected to be three times as long as the message: should it be above the bound, an etag is
# missing. A 201 must not be, so there it is expected to be ten times as long.
KEPT_JSON_BYTES, KEPT_BYTES, KEPT_FOR_SURE_BYTES = 60_000, 16_384, 4096

_TAGS = re.compile(r'(?:W/)?"([^"]*)"')
_ONE_TAG = re.compile(r'\*|(?:W/)?"[^"]*"|[^",*\s]+')


class Answering(Protocol):
    """Gives an answer, to a call with the metadata `asked`, that is the same `for_all` or not."""

    async def __call__(
        self, answer: Rendered, context: Any, asked: Mapping[str, str], *, for_all: bool
    ) -> bytes: ...


@dataclass(frozen=True)
class _Rendering:
    """A message, rendered as it is asked for."""

    message: Message
    write: Callable[[Message], bytes]

    @cached_property
    def raw(self) -> bytes:
        return self.message.SerializeToString(deterministic=True)

    @property
    def json(self) -> bytes:
        return self.write(self.message)

    @property
    def tag(self) -> str:
        return tag(self.message, self.raw)


def conditional(method: Method, handler: Handler) -> Handler:
    """Let clients say which version of a resource a call is about."""
    if not method.reads:
        return _change(method, handler)
    return _read(method, handler) if method.cacheable else handler


def _read(method: Method, handler: Handler) -> Handler:
    say = answering(method)
    write = proto_json.writer(method.answer)

    async def read(request: Any, context: Any) -> Any:
        answer = await handler(request, context)
        current = call.current()
        is_message = isinstance(answer, Message)
        if CAME_AS_REST not in current.metadata:
            return answer if is_message else answer.raw
        if is_message:
            answer = _Rendering(answer, write)
        return await say(answer, context, current.metadata, for_all=not current.authorization)

    return read


def answering(method: Method) -> Answering:
    """How an answer of a cacheable method is given to REST clients.

    They are told its name; those who have it are answered nothing as 304. That is known when it has
    been read: what is saved is making JSON of it, and sending it.
    """

    async def say(
        answer: Rendered, context: Any, asked: Mapping[str, str], *, for_all: bool
    ) -> bytes:
        name = answer.tag
        metadata = [("etag", f'W/"{name}"'), ("vary", VARY)]
        if for_all:  # staff sees more; what depends on a token is for no cache
            metadata.append(("cache-control", PUBLIC))
        known = asked.get("if-none-match")
        unchanged = known is not None and (known == "*" or name in _TAGS.findall(known))
        if unchanged:
            metadata.append((HTTP_CODE, "304"))
        if TAKES_JSON in asked:
            json = b"" if unchanged else answer.json
            body, kept = _http_body(json), len(json) <= KEPT_JSON_BYTES
        else:
            body = b"" if unchanged else answer.raw
            kept = len(body) <= KEPT_BYTES
        await tell(context, metadata, behind=kept)
        return body

    return say


async def tell(context: Any, headers: list[tuple[str, str]], *, behind: bool) -> None:
    """Send headers with an answer: `behind` it where the edge waits for them, or in front of it."""
    if behind:
        context.set_trailing_metadata(headers)
    else:
        await context.send_initial_metadata(headers)


def tag(message: Message, raw: bytes) -> str:
    """What names a message that is serialized like that: a hash, behind its own etag if it has one.

    Serialize it deterministically, so that every process says the same.
    """
    own = getattr(message, "etag", None)
    return digest(raw) if own is None else f"{own}-{digest(raw)}"


def digest(raw: bytes) -> str:
    """A hash that is short and yet of one answer alone."""
    return hashlib.blake2b(raw, digest_size=9).hexdigest()


def _http_body(json: bytes) -> bytes:
    body: bytes = HttpBody(content_type="application/json", data=json).SerializeToString()
    return body


def _change(method: Method, handler: Handler) -> Handler:
    """Take the header `if-match` for the request's field `etag`.

    Where a method has no such field, the header is refused: who sends it relies on it.
    """
    has_etag = "etag" in method.request.DESCRIPTOR.fields_by_name

    async def change(request: Any, context: Any) -> Any:
        given = call.current().metadata.get("if-match")
        if given is None:
            return await handler(request, context)
        if not has_etag:
            raise errors.invalid_field("if-match", "this method cannot be made conditional")
        given = given.strip()
        if not _ONE_TAG.fullmatch(given):
            raise errors.invalid_field("if-match", "has to be one etag, or *")
        if request.etag and opaque(request.etag) != opaque(given):
            raise errors.invalid_field("etag", "differs from the header if-match")
        request.etag = given
        try:
            return await handler(request, context)
        except errors.ServiceError as error:
            if error.reason == reason_pb2.REASON_ETAG_MISMATCH:
                error.http_code = 412  # RFC 9110, 13.1.1; without the header it is 409
            raise

    return change
