"""CatalogService: one method an RPC."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from services.catalog import category_store, messages, rules, search, stock_store, store
from services.catalog.browsing import Browsing
from services.catalog.category_handlers import Categories
from services.catalog.stock_handlers import Stock
from services.kit import call, errors, ids, masks
from services.kit.db import Database
from services.kit.etags import check_etag
from services.kit.methods import Rendered, rendered
from services.kit.replica import Replica
from shop.catalog.v1 import catalog_pb2
from shop.errors.v1 import reason_pb2

PRODUCT_FIELDS = ("name", "slug", "description", "state", "category_ids", "attributes", "media")
DEFAULT_VARIANT_FIELDS = ("sku", "price", "compare_at_price")
UPDATABLE = (*PRODUCT_FIELDS, "default_variant_id", *DEFAULT_VARIANT_FIELDS)
NEVER_EMPTY = ("name", "slug", "state", "default_variant_id", "sku", "price")
VARIANT_FIELDS = ("sku", "options", "price", "compare_at_price", "weight_grams", "allow_backorder")


class CatalogService(Categories, Stock):
    """Products and their variants; categories and stock come from the classes it is made of."""

    def __init__(self, database: Database, replica: Replica | None = None) -> None:
        browsing = Browsing(database, replica or Replica(database))
        super().__init__(database, browsing)
        self.shelf = browsing.shelf
        self.statistics = browsing.statistics

    async def ListProducts(
        self, request: catalog_pb2.ListProductsRequest, context: Any
    ) -> catalog_pb2.ListProductsResponse:
        staff = call.caller().is_staff
        state = request.state or catalog_pb2.Product.ACTIVE
        if state != catalog_pb2.Product.ACTIVE and not staff:
            raise errors.permission_denied(
                reason_pb2.REASON_ROLE_REQUIRED,
                "Only staff list drafts and archived products.",
                role="STAFF",
            )
        if not staff:
            page = await self._browsing.page(request, state)
            return rendered(catalog_pb2.ListProductsResponse, page)
        async with self._db.connection() as connection:
            listed, next_page_token = await search.page(
                connection, request, state, self.statistics.known
            )
            ids = [row["id"] for row in listed]
            found = await store.products_by_id(connection, ids)
        return catalog_pb2.ListProductsResponse(
            products=[messages.product(found[id], staff=True) for id in ids if id in found],
            next_page_token=next_page_token,
        )

    def recall_product(self, raw: bytes) -> Rendered | None:
        """What GetProduct answers the public, if that is on the shelf: a valid id or slug is."""
        try:
            return self.shelf.get(catalog_pb2.GetProductRequest.FromString(raw).id)
        except DecodeError:
            return None  # `validate` says why

    async def GetProduct(
        self, request: catalog_pb2.GetProductRequest, context: Any
    ) -> catalog_pb2.Product:
        staff = call.caller().is_staff
        product = None if staff else self.shelf.get(request.id)
        if product is not None:
            return rendered(catalog_pb2.Product, product)
        seen = await self._browsing.product(request.id)
        if seen is None or (seen.row["state"] == catalog_pb2.Product.DRAFT and not staff):
            raise errors.not_found("product", request.id)
        if staff:
            return messages.product(seen.row, staff=True)
        return rendered(catalog_pb2.Product, self.shelf.put(request.id, *seen))

    async def CreateProduct(
        self, request: catalog_pb2.CreateProductRequest, context: Any
    ) -> catalog_pb2.Product:
        id = ids.uuid7()
        fields = {name: getattr(request, name) for name in PRODUCT_FIELDS}
        fields["state"] = request.state or catalog_pb2.Product.ACTIVE
        columns = messages.product_columns(fields)
        rules.check_slug(request.slug)
        variants = messages.new_variants(request, id)
        rules.check_new_variants(variants)
        async with self._db.transaction() as tx:
            await category_store.hold(tx, columns["category_ids"])
            slugs = rules.slugs(request.slug, request.name, id)
            await store.insert_product(tx, id, columns, slugs, variants)
            await store.insert_variants(tx, variants)
            await stock_store.create(tx, variants, call.user_id())
            row = await store.get_product(tx, str(id))
            return tx.reply(messages.product(row, staff=True), location=f"/api/products/{id}/")

    async def UpdateProduct(
        self, request: catalog_pb2.UpdateProductRequest, context: Any
    ) -> catalog_pb2.Product:
        changes = masks.changes(request, UPDATABLE)
        rules.check_not_cleared(changes, NEVER_EMPTY)
        rules.check_slug(changes.get("slug", ""))
        columns = messages.product_columns(changes)
        async with self._db.transaction() as tx:
            product = await store.lock_product(tx, request.id)
            check_etag(request.etag, product)
            await category_store.hold(tx, columns.get("category_ids", []))
            default = UUID(changes.get("default_variant_id") or str(product["default_variant_id"]))
            if changes.keys() & {"default_variant_id", *DEFAULT_VARIANT_FIELDS}:
                await _change_variant(
                    tx,
                    product["id"],
                    default,
                    {name: changes[name] for name in DEFAULT_VARIANT_FIELDS if name in changes},
                )
            await store.write_product(tx, product, columns, default)
            row = await store.get_product(tx, request.id)
            return tx.reply(messages.product(row, staff=True))

    async def DeleteProduct(
        self, request: catalog_pb2.DeleteProductRequest, context: Any
    ) -> catalog_pb2.Product:
        async with self._db.transaction() as tx:
            product = await store.lock_product(tx, request.id)
            check_etag(request.etag, product)
            if product["state"] != catalog_pb2.Product.ARCHIVED:
                await store.write_product(tx, product, {"state": catalog_pb2.Product.ARCHIVED})
            row = await store.get_product(tx, request.id)
            return tx.reply(messages.product(row, staff=True))

    async def CreateVariant(
        self, request: catalog_pb2.CreateVariantRequest, context: Any
    ) -> catalog_pb2.Variant:
        async with self._db.transaction() as tx:
            product = await store.lock_product(tx, request.product_id)
            rules.check_room_for_variant(await store.count_variants(tx, product["id"]))
            variant = messages.new_variant(request, product["id"], "")
            rules.check_currency(product["currency"], [variant["currency"]])
            await store.insert_variants(tx, [variant])
            await stock_store.create(tx, [variant], call.user_id())
            await store.write_product(tx, product, {})
            row = await store.get_variant(tx, variant["id"])
            return tx.reply(
                messages.variant(row),
                location=f"/api/products/{product['id']}/variants/{variant['id']}/",
            )

    async def UpdateVariant(
        self, request: catalog_pb2.UpdateVariantRequest, context: Any
    ) -> catalog_pb2.Variant:
        changes = masks.changes(request, VARIANT_FIELDS)
        rules.check_not_cleared(changes, ("sku", "price"))
        async with self._db.transaction() as tx:
            product = await store.lock_product(tx, request.product_id)
            id = UUID(request.id)
            await _change_variant(tx, product["id"], id, changes, request.etag)
            await store.write_product(tx, product, {})
            return tx.reply(messages.variant(await store.get_variant(tx, id)))

    async def DeleteVariant(self, request: catalog_pb2.DeleteVariantRequest, context: Any) -> Empty:
        async with self._db.transaction() as tx:
            product = await store.lock_product(tx, request.product_id)
            variant = await store.lock_variant(tx, product["id"], UUID(request.id))
            check_etag(request.etag, variant)
            rules.check_not_last_variant(await store.count_variants(tx, product["id"]))
            rules.check_nothing_reserved(variant)
            default = product["default_variant_id"]
            if variant["id"] == default:
                default = await store.oldest_other_variant(tx, product["id"], variant["id"])
            await store.delete_variant(tx, variant["id"])
            await store.write_product(tx, product, {}, default)
            return tx.reply(Empty())


async def _change_variant(
    tx: Any, product_id: UUID, id: UUID, changes: dict[str, Any], etag: str = ""
) -> None:
    """Change a variant of a locked product. Raises what UpdateVariant may raise."""
    variant = await store.lock_variant(tx, product_id, id)
    check_etag(etag, variant)
    columns = messages.variant_columns(changes, variant)
    if "currency" in columns:
        others = await store.other_currencies(tx, product_id, id)
        rules.check_currency(others[0] if others else columns["currency"], [columns["currency"]])
    backorder = changes.get("allow_backorder", variant["allow_backorder"])
    if backorder != variant["allow_backorder"]:
        rules.check_backorder(variant, backorder)
        await store.set_backorder(tx, variant, backorder)
    if changes:
        await store.write_variant(tx, variant, columns)
