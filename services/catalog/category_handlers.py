"""The part of CatalogService that is about categories."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.catalog import category_store, messages, rules
from services.catalog.browsing import Browsing
from services.kit import errors, ids, masks, pages
from services.kit.db import Database
from services.kit.etags import check_etag
from shop.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from shop.errors.v1 import reason_pb2

CATEGORY_FIELDS = ("name", "slug", "description", "parent_id")
BEFORE_ALL = ("", UUID(int=0))


class Categories(catalog_pb2_grpc.CatalogServiceServicer):
    """Categories, in their tree."""

    def __init__(self, database: Database, browsing: Browsing) -> None:
        self._db = database
        self._browsing = browsing

    async def ListCategories(
        self, request: catalog_pb2.ListCategoriesRequest, context: Any
    ) -> catalog_pb2.ListCategoriesResponse:
        key = pages.start(request, str, str)
        after = (key[0], ids.parse(key[1], "category")) if key else BEFORE_ALL
        most = pages.size(request) + 1
        rows, _ = await self._browsing.read(
            lambda connection: category_store.page(connection, request.parent_id, after, most)
        )
        page, next_page_token = pages.cut(request, rows, lambda row: (row["name"], str(row["id"])))
        return catalog_pb2.ListCategoriesResponse(
            categories=[messages.category(row) for row in page], next_page_token=next_page_token
        )

    async def GetCategory(
        self, request: catalog_pb2.GetCategoryRequest, context: Any
    ) -> catalog_pb2.Category:
        return messages.category(await self._browsing.category(request.id))

    async def CreateCategory(
        self, request: catalog_pb2.CreateCategoryRequest, context: Any
    ) -> catalog_pb2.Category:
        id = ids.uuid7()
        rules.check_slug(request.slug)
        parent = UUID(request.parent_id) if request.parent_id else None
        async with self._db.transaction() as tx:
            if parent is not None:
                await category_store.lock_tree(tx)
                rules.check_place(id, await category_store.ancestors(tx, parent), height=1)
            row = await category_store.insert_category(
                tx,
                rules.slugs(request.slug, request.name, id),
                {
                    "id": id,
                    "name": request.name,
                    "description": request.description,
                    "parent_id": parent,
                },
            )
            return tx.reply(messages.category(row), location=f"/api/categories/{id}/")

    async def UpdateCategory(
        self, request: catalog_pb2.UpdateCategoryRequest, context: Any
    ) -> catalog_pb2.Category:
        changes = masks.changes(request, CATEGORY_FIELDS)
        rules.check_not_cleared(changes, ("name", "slug"))
        rules.check_slug(changes.get("slug", ""))
        async with self._db.transaction() as tx:
            if "parent_id" in changes:
                parent = UUID(changes["parent_id"]) if changes["parent_id"] else None
                changes["parent_id"] = parent
                await category_store.lock_tree(tx)
            row = await category_store.lock(tx, request.id)
            check_etag(request.etag, row)
            if changes.get("parent_id"):
                above = await category_store.ancestors(tx, changes["parent_id"])
                rules.check_place(row["id"], above, await category_store.height(tx, row["id"]))
            return tx.reply(messages.category(await category_store.write(tx, row, changes)))

    async def DeleteCategory(
        self, request: catalog_pb2.DeleteCategoryRequest, context: Any
    ) -> Empty:
        async with self._db.transaction() as tx:
            await category_store.lock_tree(tx)
            row = await category_store.lock(tx, request.id)
            check_etag(request.etag, row)
            if await category_store.is_in_use(tx, row["id"]):
                raise errors.failed_precondition(
                    reason_pb2.REASON_CATEGORY_NOT_EMPTY,
                    "The category has categories or products in it: move or delete them first.",
                )
            await category_store.delete(tx, row["id"])
            return tx.reply(Empty())
