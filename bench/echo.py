"""A bare grpc.aio server that answers one message: what a call costs before anything is done.

It has the settings of the shop's services, and neither layers nor a database. It reads the message,
a serialized Product as hex, from standard input, and writes its port to standard output.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from services.kit.server import OPTIONS
from shop.catalog.v1.catalog_pb2 import GetProductRequest, Product

SERVICE = "bench.Echo"
PATH = f"/{SERVICE}/GetProduct"


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
