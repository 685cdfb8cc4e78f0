"""What carts ask of the catalogue: prices and availability.

Carts that are looked at or changed at the same time share a call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from services.kit import errors
from services.kit.batches import Batch
from shop.catalog.v1 import stock_pb2, stock_pb2_grpc
from shop.catalog.v1.stock_pb2 import VariantSnapshot


class Key(NamedTuple):
    """A variant, or the default one of a product."""

    id: UUID
    is_product: bool = False


class Catalogue:
    """The catalogue, as carts see it."""

    def __init__(self, stub: stock_pb2_grpc.StockServiceStub) -> None:
        self._stub = stub
        self._snapshots: Batch[Key, VariantSnapshot] = Batch(self._fetch)

    async def variants(self, ids: Collection[UUID]) -> dict[UUID, VariantSnapshot]:
        """These variants, as far as they exist."""
        return _variants(await self._snapshots.get_all([Key(id) for id in ids]))

    async def chosen(
        self, variant_id: str, product_id: str, others: Collection[UUID]
    ) -> tuple[VariantSnapshot, dict[UUID, VariantSnapshot]]:
        """A variant, or a product's default one, and all asked for by id. Raises NOT_FOUND."""
        wanted = Key(UUID(variant_id or product_id), is_product=not variant_id)
        found = await self._snapshots.get_all([wanted, *(Key(id) for id in others)])
        if wanted not in found:
            raise errors.not_found("product" if wanted.is_product else "variant", wanted.id)
        return found[wanted], _variants(found)

    async def _fetch(self, keys: Sequence[Key]) -> dict[Key, VariantSnapshot]:
        request = stock_pb2.BatchGetVariantsRequest(
            variant_ids=[str(key.id) for key in keys if not key.is_product],
            product_ids=[str(key.id) for key in keys if key.is_product],
        )
        found = {}
        for variant in (await self._stub.BatchGetVariants(request)).variants:
            found[Key(UUID(variant.id))] = variant
            if variant.is_default:
                found[Key(UUID(variant.product_id), is_product=True)] = variant
        return found


def _variants(found: Mapping[Key, VariantSnapshot]) -> dict[UUID, VariantSnapshot]:
    return {UUID(variant.id): variant for variant in found.values()}
