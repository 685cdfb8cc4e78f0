"""What carts ask of the catalogue: prices and availability, always in one call."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from services.kit import errors
from shop.catalog.v1 import stock_pb2, stock_pb2_grpc
from shop.catalog.v1.stock_pb2 import VariantSnapshot

# The most that one call may ask for.
MOST = 500


class Catalogue:
    """The catalogue, as carts see it."""

    def __init__(self, stub: stock_pb2_grpc.StockServiceStub) -> None:
        self._stub = stub

    async def variants(self, ids: Iterable[UUID]) -> dict[UUID, VariantSnapshot]:
        """These variants, as far as they exist."""
        wanted = _texts(ids)
        if not wanted:
            return {}
        request = stock_pb2.BatchGetVariantsRequest(variant_ids=wanted)
        return _by_id(await self._stub.BatchGetVariants(request))

    async def chosen(
        self, variant_id: str, product_id: str, others: Iterable[UUID]
    ) -> tuple[VariantSnapshot, dict[UUID, VariantSnapshot]]:
        """A variant, or a product's default one, and all asked for by id. Raises NOT_FOUND."""
        if variant_id:
            found = await self.variants({UUID(variant_id), *others})
            chosen = found.get(UUID(variant_id))
            if chosen is None:
                raise errors.not_found("variant", variant_id)
            return chosen, found
        product_id = str(UUID(product_id))
        request = stock_pb2.BatchGetVariantsRequest(
            product_ids=[product_id], variant_ids=_texts(others)
        )
        answer = await self._stub.BatchGetVariants(request)
        of_product = [one for one in answer.variants if one.product_id == product_id]
        if len(of_product) > 1:  # others of its variants are asked for: which is the default?
            alone = stock_pb2.BatchGetVariantsRequest(product_ids=[product_id])
            of_product = list((await self._stub.BatchGetVariants(alone)).variants)
        if not of_product:
            raise errors.not_found("product", product_id)
        return of_product[0], _by_id(answer)


def _texts(ids: Iterable[UUID]) -> list[str]:
    return [str(id) for id in ids][:MOST]


def _by_id(answer: stock_pb2.BatchGetVariantsResponse) -> dict[UUID, VariantSnapshot]:
    return {UUID(variant.id): variant for variant in answer.variants}
