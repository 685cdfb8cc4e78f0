"""Requests that are no message at all: refused in our own words, which give nothing away."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.kit.serving import Served
from tests.running import refused

UNREADABLE = {
    "text that is not UTF-8": b"\x0a\x02\xff\xfe",
    "a field cut short": b"\x0a\xff",
    "garbage": b"\xff\xff\xff",
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_read_is_malformed(served: Served, what: str) -> None:
    method: Any = served.channel.unary_unary("/shop.tests.v1.ThingService/GetThing")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST") as refusal:
        await method(UNREADABLE[what])
    assert refusal[0].message == "The request cannot be read."
