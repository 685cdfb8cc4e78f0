"""Products as the public reads them: rendered once, and kept until they change.

What is on the shelf is at most `SECONDS` old, whatever happens. In general it is younger: the
process that changes a product, or what of it is available, forgets it before the change is
answered, the others within some 20 ms (`kit.changes`). Staff see products as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from google.protobuf.wrappers_pb2 import BytesValue

from services.catalog import messages
from services.kit.cache import Cache
from services.kit.changes import Changes
from services.kit.db import Database
from services.kit.statements import Fields
from shop.catalog.v1 import catalog_pb2

SECONDS = 5.0
MOST_BYTES = 16 << 20
CHANNEL = "catalog_changes"


class Shelf:
    """Serialized products by what they are asked for: an id or a slug."""

    def __init__(self, database: Database) -> None:
        """`changes` is to run in the background, to hear of what other processes change."""
        self._cache = Cache(seconds=SECONDS, most_bytes=MOST_BYTES)
        self.get = self._cache.get
        self.moment = self._cache.moment
        self.changes = Changes(
            database, CHANNEL, heard=self._cache.forget, missed=self._cache.clear
        )

    def put(self, key: str, row: Fields, looked_up: int) -> bytes:
        """A row of `store.PRODUCT`, looked up since that moment, as the public sees it."""
        product = messages.product(row, staff=False).SerializeToString()
        if row["state"] != catalog_pb2.Product.DRAFT:
            variants = [UUID(variant["id"]) for variant in row["variants"]]
            self._cache.put(key, product, [row["id"], *variants], looked_up)
        return product


def page(products: Iterable[bytes], next_page_token: str) -> bytes:
    """A serialized ListProductsResponse of serialized products.

    A message is serialized field by field, and products are its field 1, as is the value of a
    BytesValue.
    """
    rest = catalog_pb2.ListProductsResponse(next_page_token=next_page_token)
    parts = [BytesValue(value=product).SerializeToString() for product in products]
    return b"".join((*parts, rest.SerializeToString()))
