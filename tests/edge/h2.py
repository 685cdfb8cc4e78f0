"""Just enough HTTP/2 (RFC 9113) for one request without an upgrade."""

from __future__ import annotations

import asyncio

from cli.topology import Address

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS = 0, 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4
# Indexes of the table that every connection begins with (RFC 7541, appendix A).
_STATUSES = {8: 200, 12: 400, 13: 404, 14: 500}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that is spelled out and not remembered."""
    return b"\x00" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    """RFC 7541, 5.1, without Huffman's code: seven bits, and from 127 on as many more as needed."""
    left = len(text) - 127
    if left < 0:
        return bytes([len(text)])
    more = [127]
    while left >= 128:
        more.append(left % 128 + 128)
        left //= 128
    return bytes([*more, left])


def request_headers(verb: str, path: str, authority: str, **more: str) -> bytes:
    """The header block of a request; underscores in names of `more` stand for hyphens."""
    headers = {":method": verb, ":scheme": "http", ":path": path, ":authority": authority}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return b"".join(literal(name.encode(), value.encode()) for name, value in headers.items())


async def h2_request(
    address: Address, verb: str, path: str, **more: str
) -> tuple[int | None, bytes, bytes | None]:
    """Status, where it is a common one, body and trailers, still compressed, of the answer."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    block = request_headers(verb, path, str(address), **more)
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    writer.write(frame(HEADERS, _END_STREAM | _END_HEADERS, 1, block))
    status, body, trailers, ended = None, b"", None, False
    async with asyncio.timeout(5):
        while not ended:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if stream == 1 and kind == HEADERS and status is None:
                status = _STATUSES.get(payload[0] & 0x7F, 0)
            elif stream == 1 and kind == HEADERS:
                trailers = payload
            elif stream == 1 and kind == DATA:
                body += payload
            ended = stream == 1 and bool(flags & _END_STREAM)
    writer.close()
    await writer.wait_closed()
    return status, body, trailers
