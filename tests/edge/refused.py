"""What a refusal has to look like, whoever gives it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

# Words that only somebody who runs the shop should see.
_INTERNALS = re.compile(
    r"envoy|upstream|transcode|jwks|jwt_|no_healthy|reset reason|127\.0\.0\.1", re.IGNORECASE
)


def assert_refused(response: httpx.Response, status: int, code: int, reason: str) -> dict[str, Any]:
    """Check a REST answer for `google.rpc.Status` JSON; gives its body."""
    text = response.text
    assert response.status_code == status, text
    assert response.headers["content-type"] == "application/json"
    assert not _INTERNALS.search(text), text
    assert not [name for name in response.headers if name.startswith(("grpc-", "x-envoy-"))]
    assert "server" not in response.headers
    body: dict[str, Any] = response.json()
    assert body["code"] == code, text
    assert body["message"]
    info = body["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["reason"], info["domain"]) == (reason, "shop"), text
    return body


@contextlib.contextmanager
def grpc_refused(code: grpc.StatusCode, reason: str) -> Iterator[None]:
    """Expect the block's native call to be refused like this."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    error = caught.value
    trailers = dict(error.trailing_metadata() or ())
    assert error.code() == code, error
    assert error.details()
    assert not _INTERNALS.search(error.details() or ""), error
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, info.reason, info.domain) == (code.value[0], reason, "shop")
