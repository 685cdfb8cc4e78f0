"""What is asked of the shop: each call as a load on its gRPC port or on the edge."""

from __future__ import annotations

import itertools
import json
import random
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import asyncpg
import grpc

from bench import http1, pages
from bench.load import Load
from bench.pages import PAGE
from bench.shop import Customer, Shop
from shop.catalog.v1.catalog_pb2 import GetProductRequest, ListProductsRequest, Product
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub

LINES = 2
# A customer's cart has so many lines, and each cart is asked for in turn.
CART_LINES = 5
REQUESTS = 2_000
ADDRESS = {"region_code": "US", "address_lines": ["1 Bench Street"]}
CATALOG = "/shop.catalog.v1.CatalogService/"

GET_GRPC = "GetProduct, gRPC"
GET = "GetProduct, REST"
GET_ANY = "GetProduct of any, REST"
LIST_GRPC = f"ListProducts of {PAGE}, gRPC"
LIST = f"ListProducts of {PAGE}, REST"
CREATE_ORDER = f"CreateOrder of {LINES}, REST"
ADD_ITEM = "AddItem, REST"
CREATE_ORDER_SQL = f"CreateOrder of {LINES}, its SQL by pgbench"
LIST_SQL = f"ListProducts of {PAGE}, its SQL by pgbench"
LIST_ORDERS = f"ListUserOrders of {PAGE}, REST"
THROUGH_THE_EDGE = (GET, GET_ANY, LIST, CREATE_ORDER, ADD_ITEM, LIST_ORDERS)


@dataclass(frozen=True)
class Goods:
    """What is asked for.

    Of `popular` products, some are asked for much more often than others, as in a shop: the n-th
    one 1/n as often as the first. Of `any` products, each is asked for as often as any other.
    """

    product: Product
    """One of them, for the echo."""
    popular: Sequence[tuple[str, str]]
    """Ids and slugs."""
    any: Sequence[tuple[str, str]]
    variants: Sequence[str]


async def goods(shop: Shop) -> Goods:
    """Drawn from all that the shop has."""
    luck = random.Random("goods")
    owner = await asyncpg.connect(shop.owner_url)
    products = [
        (str(row["id"]), row["slug"])
        for row in await owner.fetch(
            "SELECT id, slug FROM catalog.products WHERE state = 2 ORDER BY slug"
        )
    ]
    rows = await owner.fetch(
        "SELECT s.variant_id FROM catalog.stock s JOIN catalog.variants v ON v.id = s.variant_id"
        " WHERE s.on_hand - s.reserved > 500000 ORDER BY v.sku LIMIT 1000"
    )
    await owner.close()
    luck.shuffle(products)
    weights = [1 / number for number in range(1, len(products) + 1)]
    async with grpc.aio.insecure_channel(shop.services["catalog"]) as channel:
        product = await CatalogServiceStub(channel).GetProduct(
            GetProductRequest(id=products[0][0]), wait_for_ready=True
        )
    return Goods(
        product,
        luck.choices(products, weights, k=REQUESTS),
        products,
        [str(row["variant_id"]) for row in rows],
    )


def load(
    kind: Literal["grpc", "rest"],
    address: str,
    exchanges: Iterable[tuple[bytes, str]],
    path: str = "",
) -> Load:
    """A load on `host:port`."""
    host, _, port = address.rpartition(":")
    pairs = [(request.hex(), expected.encode().hex()) for request, expected in exchanges]
    return Load(kind, host, int(port), pairs, path)


def reads(shop: Shop, some: Goods) -> dict[str, Load]:
    """Products, one by one and by the page."""
    paths = pages.walk(shop.edge)
    return {
        GET_GRPC: load(
            "grpc",
            shop.services["catalog"],
            [(GetProductRequest(id=id).SerializeToString(), id) for id, _ in some.popular],
            f"{CATALOG}GetProduct",
        ),
        GET: load("rest", shop.edge, gets(some.popular)),
        GET_ANY: load("rest", shop.edge, gets(some.any)),
        LIST_GRPC: load(
            "grpc",
            shop.services["catalog"],
            [(_list_request(path), last) for path, last in paths],
            f"{CATALOG}ListProducts",
        ),
        LIST: load("rest", shop.edge, [(http1.request("GET", path), last) for path, last in paths]),
    }


def gets(products: Sequence[tuple[str, str]]) -> list[tuple[bytes, str]]:
    """Each of the products by its id."""
    return [(http1.request("GET", f"/api/products/{id}/"), slug) for id, slug in products]


def _list_request(path: str) -> bytes:
    """The same as a message."""
    query = dict(urllib.parse.parse_qsl(path.partition("?")[2]))
    request = ListProductsRequest(
        page_size=PAGE, order_by=query["order_by"], page_token=query.get("page_token", "")
    )
    return request.SerializeToString()


def purchases(shop: Shop, some: Goods) -> dict[str, Load]:
    """Carts and orders."""
    luck = random.Random("bench")

    def item(who: Customer) -> tuple[bytes, str]:
        number = shop.customers.index(who)
        chosen = luck.choice(some.variants[number * CART_LINES : (number + 1) * CART_LINES])
        body = json.dumps({"variant_id": chosen, "quantity": 1})
        return (http1.request("POST", "/api/cart/items/", who.token, body), chosen)

    def orders(who: Customer) -> tuple[bytes, str]:
        path = f"/api/orders/user/{who.user_id}/?page_size={PAGE}"
        return (http1.request("GET", path, who.token), '"next_page_token":"')

    in_turn = list(itertools.islice(itertools.cycle(shop.customers), REQUESTS))
    return {
        CREATE_ORDER: load("rest", shop.edge, [order_of(luck, some, who.token) for who in in_turn]),
        ADD_ITEM: load("rest", shop.edge, map(item, in_turn)),
        LIST_ORDERS: load("rest", shop.edge, map(orders, shop.customers)),
    }


def order_of(luck: random.Random, some: Goods, token: str) -> tuple[bytes, str]:
    """An order of one piece each of some variants, and what its answer has to hold."""
    chosen = luck.sample(some.variants, LINES)
    lines = [{"variant_id": variant, "quantity": 1} for variant in chosen]
    body = json.dumps({"items": lines, "shipping_address": ADDRESS})
    plain = http1.request("POST", "/api/orders/", token, body)
    return http1.keyed(plain), chosen[-1]
