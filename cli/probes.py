"""Questions to a server on this machine whether it works."""

from __future__ import annotations

import asyncio
import contextlib

from cli.topology import Address

SECONDS = 1.0


async def listens(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


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
    """Whether a gRPC server says that it is healthy (grpc.health.v1)."""
    if not await listens(address):  # much cheaper than a channel
        return False
    import grpc  # noqa: PLC0415 - not needed before something listens, and slow to load
    from grpc_health.v1 import health_pb2  # noqa: PLC0415

    async with grpc.aio.insecure_channel(str(address)) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.aio.AioRpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
