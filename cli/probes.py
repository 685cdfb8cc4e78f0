"""Questions to a server whether it works.

`python -m cli.probes HOST:PORT` is a container's health check: status 0 when the gRPC server there
is healthy. It starts fast, as it loads nothing but what it needs, and needs no program besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from cli.topology import Address

SECONDS = 1.0


async def http_status(address: Address, path: str, method: str = "GET") -> int | None:
    """The status code that an HTTP server answers, or None when it does not answer."""
    request = f"{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n"
    request += "content-length: 0\r\n\r\n"
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(request.encode())
                status_line = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        return int(status_line.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return None


async def is_serving(address: Address) -> bool:
    """Whether a gRPC server says that it is healthy (grpc.health.v1 `Check` of the whole server).

    One call in HTTP/2 frames (RFC 9113) instead of a channel: the threads of the gRPC library do
    not go well with a process that forks.
    """
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(_health_check(str(address)))
                while True:
                    kind, payload = await _frame(reader)
                    if kind == _DATA:
                        return payload == _SERVING
                    if kind in (_RST_STREAM, _GOAWAY):
                        return False
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
# gRPC messages: not compressed, four bytes of length, then the protobuf; none, and `status: 1`.
_EMPTY = b"\0\0\0\0\0"
_SERVING = b"\0\0\0\0\x02\x08\x01"


def _health_check(authority: str) -> bytes:
    """What a client sends: preface, settings, and one call on stream 1."""
    post, http, path, host, new_name = b"\x83", b"\x86", b"\x04", b"\x01", b"\x00"  # RFC 7541, A
    headers = [
        post,
        http,
        path + _text("/grpc.health.v1.Health/Check"),
        host + _text(authority),
        new_name + _text("content-type") + _text("application/grpc"),
        new_name + _text("te") + _text("trailers"),
    ]
    return b"".join(
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            _header(0, _SETTINGS, 0, 0),
            _header(sum(map(len, headers)), _HEADERS, _END_HEADERS, 1),
            *headers,
            _header(len(_EMPTY), _DATA, _END_STREAM, 1),
            _EMPTY,
        )
    )


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _header(length: int, kind: int, flags: int, stream: int) -> bytes:
    return length.to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    header = await reader.readexactly(9)
    return header[3], await reader.readexactly(int.from_bytes(header[:3]))


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    sys.exit(0 if asyncio.run(is_serving(Address(host, int(port)))) else 1)
