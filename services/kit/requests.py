"""Requests as they come: read, and checked against the rules in their proto."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from services.kit import call, card_numbers, errors, validation
from services.kit.methods import Handler, Layer, Method

# Of each method that reads. A request takes about a kilobyte, with what was sent.
REMEMBERED = 1000
LONGEST_REMEMBERED = 256


def validate(*, refuse_card_numbers: bool = True) -> Layer:
    """Read the request, and check it against the rules in its proto.

    It comes here as it was sent: of one that cannot be read, grpc.aio would say so itself, and name
    classes and fields. What would be kept is refused before that, should it hold a card number.
    """

    def layer(method: Method, handler: Handler) -> Handler:
        validation.prepare(method.request)
        if method.reads:
            return _read(method, handler)
        read = method.request.FromString

        async def validated(raw: bytes, context: Any) -> Any:
            try:
                request = read(raw)
            except DecodeError:
                raise errors.malformed() from None
            if refuse_card_numbers:
                card_numbers.refuse(request, call.current().metadata.get("idempotency-key", ""))
            validation.check(request, raw)
            return await handler(request, context)

        return validated

    return layer


def _read(method: Method, handler: Handler) -> Handler:
    """As `validate`; but the same is read again and again, and what was found valid is known.

    Calls may share a request, so handlers that read must not change theirs.
    """
    read = method.request.FromString
    known: dict[bytes, Any] = {}

    async def validated(raw: bytes, context: Any) -> Any:
        request = known.get(raw)
        if request is None:
            try:
                request = read(raw)
            except DecodeError:
                raise errors.malformed() from None
            validation.check(request, raw)
            if len(raw) <= LONGEST_REMEMBERED:
                if len(known) >= REMEMBERED:
                    del known[next(iter(known))]
                known[raw] = request
        return await handler(request, context)

    return validated
