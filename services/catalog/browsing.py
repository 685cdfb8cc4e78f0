"""How products are looked up for those who browse.

Who has signed in, staff above all, sees what the primary has. Nobody in particular, who can have
changed nothing, may be answered by the replica while that is near (`kit.replica`), as of some
moments ago. Only lists show it: a product or a category is looked up again at the primary where
this process knows that it has changed since, and where the replica does not know it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from services.catalog import category_store, search, shelf, store
from services.catalog.search_statistics import Statistics
from services.catalog.shelf import Shelf
from services.kit import call
from services.kit.batches import Batch
from services.kit.db import Connection, Database, Row
from services.kit.replica import Answer, Ask, Replica, View
from shop.catalog.v1 import catalog_pb2

Find = Callable[[Connection, Sequence[Any]], Awaitable[Mapping[Any, Row]]]


class Seen(NamedTuple):
    """A row of `store.PRODUCT`, and how it was seen."""

    row: Row
    view: View


class Listed(NamedTuple):
    """The products of a page in their order, as far as they are on the shelf, and the rows of the
    others.
    """

    products: dict[UUID, shelf.Product | None]
    missing: Mapping[UUID, Row]
    next_page_token: str


class Browsing:
    """Look-ups of products."""

    def __init__(self, database: Database, replica: Replica) -> None:
        self.shelf = Shelf(database)
        self.statistics = Statistics(database)
        self._replica = replica
        replica.mark = self.shelf.moment
        self._stored = _batches(self._look_up)
        self._copied = _batches(self._look_up_near)

    async def product(self, id_or_slug: str) -> Seen | None:
        """A product, if there is one."""
        id = store.product_id(id_or_slug)
        by_id, by_slug = self._copied if self._is_tolerant() else self._stored
        return await (by_slug.get(id_or_slug) if id is None else by_id.get(id))

    async def category(self, id_or_slug: str) -> Row:
        """A category. Raises NOT_FOUND."""

        def ask(connection: Connection) -> Awaitable[Row]:
            return category_store.get(connection, id_or_slug)

        row, view = await self.read(ask)
        if view.lags and self.shelf.has_changed([row["id"]], view.mark):
            row, _ = await self._replica.read_primary(ask)
        return row

    async def read(self, ask: Ask[Answer]) -> tuple[Answer, View]:
        """What `ask` answers, of the replica if the caller tolerates that."""
        if self._is_tolerant():
            return await self._replica.read(ask)
        return await self._replica.read_primary(ask)

    async def page(
        self,
        request: catalog_pb2.ListProductsRequest,
        state: catalog_pb2.Product.State.ValueType,
    ) -> shelf.Page:
        """A page of products as the public sees them."""

        async def ask(connection: Connection) -> Listed:
            listed, next_page_token = await search.page(
                connection, request, state, self.statistics.known
            )
            known = {row["id"]: self.shelf.get(str(row["id"])) for row in listed}
            missing = [id for id, product in known.items() if product is None]
            rows = await store.products_by_id(connection, missing) if missing else {}
            return Listed(known, rows, next_page_token)

        listed, view = await self.read(ask)
        if view.lags and self.shelf.has_changed(listed.products, view.mark):
            listed, view = await self._replica.read_primary(ask)
        seen = {id: Seen(row, view) for id, row in listed.missing.items()}
        if view.lags:
            seen = await self._without_outdated(store.products_by_id, list(listed.missing), seen)
        for id, (row, as_it_was) in seen.items():
            # One that was taken away between the two statements is not listed.
            if row["state"] == state:
                listed.products[id] = self.shelf.put(str(id), row, as_it_was)
        products = [product for product in listed.products.values() if product is not None]
        return shelf.Page(products, listed.next_page_token)

    def _is_tolerant(self) -> bool:
        return self._replica.exists and call.caller() == call.NOBODY

    async def _look_up(self, find: Find, keys: Sequence[Any]) -> dict[Any, Seen]:
        rows, view = await self._replica.read_primary(lambda connection: find(connection, keys))
        return {key: Seen(row, view) for key, row in rows.items()}

    async def _look_up_near(self, find: Find, keys: Sequence[Any]) -> dict[Any, Seen]:
        rows, view = await self._replica.read(lambda connection: find(connection, keys))
        seen = {key: Seen(row, view) for key, row in rows.items()}
        return await self._without_outdated(find, keys, seen) if view.lags else seen

    async def _without_outdated(
        self, find: Find, keys: Sequence[Any], seen: dict[Any, Seen]
    ) -> dict[Any, Seen]:
        """The same, with what the replica does not know, or not as it is now, from the primary."""
        fresh = {
            key: one for key, one in seen.items() if not self.shelf.is_outdated(one.row, one.view)
        }
        others = [key for key in keys if key not in fresh]
        return fresh | await self._look_up(find, others) if others else fresh


def _batches(
    look_up: Callable[[Find, Sequence[Any]], Awaitable[dict[Any, Seen]]],
) -> tuple[Batch[UUID, Seen], Batch[str, Seen]]:
    """By id, and by slug."""
    return (
        Batch(partial(look_up, store.products_by_id)),
        Batch(partial(look_up, store.products_by_slug)),
    )
