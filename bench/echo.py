"""A bare grpc.aio server that answers one message: what a call costs before anything is done.

It has the settings of the shop's services, and neither layers nor a database. It reads the message,
a serialized Product as hex, from standard input, and writes its port to standard output.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import uvloop

from bench.load import Load
from services.kit.server import OPTIONS
from shop.catalog.v1.catalog_pb2 import GetProductRequest, Product

SERVICE = "bench.Echo"
PATH = f"/{SERVICE}/GetProduct"


@contextmanager
def running(product: Product) -> Iterator[int]:
    """The server in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.echo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(product.SerializeToString().hex() + "\n")
        process.stdin.flush()
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)


def load(port: int, product: Product) -> Load:
    """Calls of it, with a request and an answer like those of GetProduct."""
    request = GetProductRequest(id=product.id).SerializeToString().hex()
    return Load("grpc", "127.0.0.1", port, [(request, product.id.encode().hex())], PATH)


async def main() -> None:
    product = Product.FromString(bytes.fromhex(sys.stdin.readline()))

    async def get_product(request: GetProductRequest, context: Any) -> Product:
        return product

    handler = grpc.unary_unary_rpc_method_handler(
        get_product,
        request_deserializer=GetProductRequest.FromString,
        response_serializer=Product.SerializeToString,
    )
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(SERVICE, {"GetProduct": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    # It ends when whoever started it closes its standard input.
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main())
