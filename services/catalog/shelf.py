"""Products as the public reads them: rendered once, and kept until they change.

What is on the shelf is as old as `SECONDS` at most, whatever happens. In general it is younger: the
process that changes a product, or what of it is available, forgets it before the change is
answered, the others within some 20 ms (`kit.changes`). What is asked for now and then stays for
longer: before its time is over, the database is asked who has written its rows, of many products at
once, and what nobody has written since is as true as if it were looked up. Staff see products as
they are stored.

That holds with a replica, too: what it shows is dated by the moment as of which it shows it, and is
not taken if any of it has changed since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from google.protobuf.wrappers_pb2 import BytesValue

from services.catalog import messages, store
from services.kit.cache import Cache
from services.kit.changes import Changes
from services.kit.conditional import digest, tag
from services.kit.db import Database
from services.kit.proto_json import writer
from services.kit.replica import View
from services.kit.statements import Fields
from services.kit.tasks import every, forever
from shop.catalog.v1 import catalog_pb2

SECONDS = 5.0
MOST_BYTES = 24 << 20
CHANNEL = "catalog_changes"
# Of its time; what ends within two of them is asked about, so a look may be late, or fail, once.
LOOK_SHARE = 0.2
LOOKED_AT_ONCE = 500

_write = writer(catalog_pb2.Product)


class Product(NamedTuple):
    """A product as gRPC sends it, and as REST does."""

    raw: bytes
    json: bytes
    tag: str

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.raw) + len(self.json)


@dataclass(frozen=True, slots=True)
class Page:
    """A ListProductsResponse of products that are rendered."""

    products: Sequence[Product]
    next_page_token: str

    @property
    def raw(self) -> bytes:
        """The message, serialized.

        A message is serialized field by field, and products are its field 1, as is the value of a
        BytesValue.
        """
        rest = catalog_pb2.ListProductsResponse(next_page_token=self.next_page_token)
        parts = [BytesValue(value=product.raw).SerializeToString() for product in self.products]
        return b"".join((*parts, rest.SerializeToString()))

    @property
    def json(self) -> bytes:
        """The same as JSON."""
        products = b",".join([product.json for product in self.products])
        token = msgspec.json.encode(self.next_page_token)
        return b'{"products":[%b],"next_page_token":%b}' % (products, token)

    @property
    def tag(self) -> str:
        """What names it: its products' names do."""
        tags = [product.tag for product in self.products]
        return digest(" ".join([*tags, self.next_page_token]).encode())


class Shelf:
    """Rendered products by what they are asked for: an id or a slug."""

    def __init__(self, database: Database) -> None:
        """`forever` is to run in the background, to hear of what other processes change."""
        self._database = database
        self._cache: Cache[Product] = Cache(
            seconds=SECONDS, most_bytes=MOST_BYTES, size=attrgetter("size")
        )
        self.get = self._cache.get
        self.moment = self._cache.moment
        self.has_changed = self._cache.has_changed
        self.changes = Changes(
            database, CHANNEL, heard=self._cache.forget, missed=self._cache.clear
        )

    def is_outdated(self, row: Fields, view: View) -> bool:
        """Whether this process knows of a change of a row of `store.PRODUCT` since it was seen."""
        return self._cache.has_changed(_things(row), view.mark)

    def put(self, key: str, row: Fields, view: View) -> Product:
        """A row of `store.PRODUCT`, seen like that, as the public sees it."""
        message = messages.product(row, staff=False)
        raw = message.SerializeToString(deterministic=True)
        product = Product(raw, _write(message), tag(message, raw))
        if row["state"] != catalog_pb2.Product.DRAFT:
            self._cache.put(key, product, _things(row), view.mark, store.writers(row), view.age)
        return product

    async def forever(self) -> None:
        """Hear of changes, and look whether what is there is still true."""
        look = every(LOOK_SHARE * SECONDS, self.look)
        async with asyncio.TaskGroup() as group:
            group.create_task(forever("shelf", look))
            group.create_task(self.changes.forever())

    async def look(self) -> None:
        """Keep for another while what would end soon, and has not been written since."""
        ending = iter(self._cache.ending(2 * LOOK_SHARE * SECONDS).items())
        while some := dict(islice(ending, LOOKED_AT_ONCE)):
            ids: dict[str, Any] = {key: entry.tells_of[0] for key, entry in some.items()}
            asked = time.monotonic()
            async with self._database.connection() as connection:
                found = await store.writers_of(connection, list(ids.values()))
            self._cache.confirm({key: found.get(id) for key, id in ids.items()}, asked)


def _things(row: Fields) -> list[UUID]:
    return [row["id"], *(UUID(variant["id"]) for variant in row["variants"])]
