"""Stock as staff keep it, and variants as other services read them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import (
    AdjustStockRequest,
    AdjustStockResponse,
    CreateVariantRequest,
    DeleteProductRequest,
    DeleteVariantRequest,
    ListStockMovementsRequest,
    Media,
    NewVariant,
    Product,
    StockMovement,
    UpdateProductRequest,
    UpdateVariantRequest,
    Variant,
)
from shop.catalog.v1.stock_pb2 import BatchGetVariantsRequest, VariantSnapshot
from tests import callers
from tests.callers import NOBODY, User
from tests.catalog import stockroom
from tests.catalog.stockroom import EUR_10, Stockroom, order, patiently, reasons
from tests.running import Running, refused


async def count(
    shop: Stockroom, variant: Variant, on_hand: int, expected: int
) -> AdjustStockResponse:
    counted = AdjustStockRequest.Count(on_hand=on_hand, expected_on_hand=expected)
    request = AdjustStockRequest(
        variant_id=variant.id, set=counted, reason=StockMovement.CORRECTION
    )
    return await patiently(lambda: shop.catalog.AdjustStock(request, metadata=shop.staff()))


class TestAdjustStock:
    async def test_pieces_are_added_and_the_ledger_tells_why(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        answer = await shop.catalog.AdjustStock(
            AdjustStockRequest(
                variant_id=variant.id, change=7, reason=StockMovement.RESTOCK, note="Pallet 12"
            ),
            metadata=shop.staff(),
        )
        assert (answer.variant.on_hand, answer.variant.available) == (12, 12)
        assert answer.variant.etag == variant.etag
        moved = answer.movement
        assert (moved.change, moved.on_hand, moved.reason) == (7, 12, StockMovement.RESTOCK)
        assert (moved.note, moved.variant_id) == ("Pallet 12", variant.id)
        assert (moved.user_id, moved.order_id) == (str(shop.staff.id), "")
        assert await shop.now(variant) == (12, 0)

    async def test_pieces_are_taken_away(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        answer = await shop.adjust(variant, -5, StockMovement.DAMAGE)
        assert answer.variant.on_hand == 0
        assert answer.variant.inventory_status == Variant.OUT_OF_STOCK

    async def test_a_count_sets_what_is_on_hand(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        answer = await count(shop, variant, 3, expected=5)
        assert (answer.variant.on_hand, answer.movement.change) == (3, -2)

    async def test_a_count_that_agrees_writes_nothing(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        answer = await count(shop, variant, 5, expected=5)
        assert answer.variant.on_hand == 5
        assert not answer.HasField("movement")
        assert len(await shop.ledger(variant)) == 1

    async def test_a_count_against_another_number_does_nothing(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        with refused(StatusCode.ABORTED, "STOCK_CHANGED") as refusals:
            await count(shop, variant, 3, expected=4)
        assert refusals[0].metadata == {"on_hand": "5"}
        assert await shop.now(variant) == (5, 0)

    async def test_reserved_pieces_cannot_be_taken_away(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        await shop.reserve(order(), (variant, 3))
        assert (await shop.adjust(variant, -2, StockMovement.LOSS)).variant.available == 0
        with refused(StatusCode.FAILED_PRECONDITION, "STOCK_RESERVED") as refusals:
            await shop.adjust(variant, -1, StockMovement.LOSS)
        assert refusals[0].metadata == {"on_hand": "3", "reserved": "3"}

    async def test_what_is_owed_to_backorders_may_be_more_than_there_is(
        self, shop: Stockroom
    ) -> None:
        variant = await shop.variant(2, backorder=True)
        await shop.reserve(order(), (variant, 5))
        answer = await shop.adjust(variant, -2, StockMovement.LOSS)
        assert (answer.variant.on_hand, answer.variant.available) == (0, 0)
        assert answer.variant.inventory_status == Variant.BACKORDER

    async def test_more_than_the_limit_is_refused(self, shop: Stockroom) -> None:
        variant = await shop.variant(1)
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED") as refusals:
            await shop.adjust(variant, 1_000_000_000)
        assert refusals[0].metadata == {"resource": "on_hand", "limit": "1000000000"}

    async def test_an_unknown_variant_is_not_found(self, shop: Stockroom) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusals:
            await shop.adjust(Variant(id=str(uuid7())), 1)
        assert refusals[0].metadata["resource"] == "variant"

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (AdjustStockRequest(change=0, reason=StockMovement.SALE), "change"),
            (AdjustStockRequest(change=1_000_000_001, reason=StockMovement.SALE), "change"),
            (AdjustStockRequest(reason=StockMovement.SALE), "adjustment"),
            (AdjustStockRequest(change=1), "reason"),
            (AdjustStockRequest(change=1, reason=StockMovement.INITIAL), "reason"),
        ],
        ids=["nothing", "too much", "neither", "no reason", "beginning"],
    )
    async def test_nonsense_is_invalid(
        self, shop: Stockroom, request_: AdjustStockRequest, field: str
    ) -> None:
        request_.variant_id = str(uuid7())
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusals:
            await shop.catalog.AdjustStock(request_, metadata=shop.staff())
        assert field in refusals[0].fields

    async def test_a_repeated_key_changes_stock_once(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        request = AdjustStockRequest(variant_id=variant.id, change=1, reason=StockMovement.RESTOCK)
        first, second = [
            await shop.catalog.AdjustStock(request, metadata=shop.staff(key="delivery 7"))
            for _ in range(2)
        ]
        assert first == second
        assert await shop.now(variant) == (6, 0)

    async def test_a_key_is_forgotten_after_a_day(
        self, shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(5)
        request = AdjustStockRequest(variant_id=variant.id, change=1, reason=StockMovement.RESTOCK)
        for on_hand, hours in ((6, 23), (6, 25), (7, 0)):
            answer = await shop.catalog.AdjustStock(request, metadata=shop.staff(key="delivery 7"))
            assert answer.variant.on_hand == on_hand
            await owner_connection.execute(
                "UPDATE catalog.idempotency_keys SET create_time = now() - $1::interval",
                timedelta(hours=hours),
            )
            await served.database.forget_old_keys()

    async def test_parallel_changes_all_count(
        self, shop: Stockroom, owner_connection: asyncpg.Connection
    ) -> None:
        variant = await shop.variant(5)
        changes = [3, -1] * 25
        assert set(await reasons(shop.adjust(variant, change) for change in changes)) == {""}
        assert await shop.now(variant) == (55, 0)
        await stockroom.audit(owner_connection)

    async def test_of_parallel_counts_one_wins(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        refusals = await reasons(count(shop, variant, 6 + n, expected=5) for n in range(20))
        assert sorted(refusals) == ["", *["STOCK_CHANGED"] * 19]

    @pytest.mark.parametrize("caller", [NOBODY, User("CUSTOMER")()], ids=["nobody", "customer"])
    async def test_it_is_for_staff(self, shop: Stockroom, caller: callers.Metadata) -> None:
        request = AdjustStockRequest(
            variant_id=str(uuid7()), change=1, reason=StockMovement.RESTOCK
        )
        code, reason = (
            (StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
            if caller
            else (StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
        )
        with refused(code, reason):
            await shop.catalog.AdjustStock(request, metadata=caller)

    async def test_it_takes_three_statements(self, shop: Stockroom, served: Running) -> None:
        variant = await shop.variant(5)
        async with served.counting() as statements:
            await shop.adjust(variant, 1)
        assert len(statements) == 3


class TestListStockMovements:
    async def test_the_ledger_begins_with_what_the_variant_began_with(
        self, shop: Stockroom
    ) -> None:
        variant = await shop.variant(5)
        (line,) = await shop.ledger(variant)
        assert (line.change, line.on_hand, line.reason) == (5, 5, StockMovement.INITIAL)
        assert line.user_id == str(shop.staff.id)

    async def test_a_variant_that_began_with_nothing_has_no_lines(self, shop: Stockroom) -> None:
        assert await shop.ledger(await shop.variant(0)) == []

    async def test_a_variant_added_later_has_its_own(self, shop: Stockroom) -> None:
        product = await shop.product(price=EUR_10, stock=2)
        request = CreateVariantRequest(
            product_id=product.id, options={"size": "L"}, price=EUR_10, stock=9
        )
        variant = await shop.catalog.CreateVariant(request, metadata=shop.staff())
        assert [line.change for line in await shop.ledger(variant)] == [9]

    async def test_pages_go_from_the_newest_to_the_oldest(self, shop: Stockroom) -> None:
        variant = await shop.variant(1)
        for change in (2, 3, 4, 5):
            await shop.adjust(variant, change)
        seen, token = [], ""
        for size in (2, 2, 1):
            request = ListStockMovementsRequest(
                variant_id=variant.id, page_size=2, page_token=token
            )
            page = await shop.catalog.ListStockMovements(request, metadata=shop.staff())
            assert len(page.movements) == size
            seen += [line.change for line in page.movements]
            token = page.next_page_token
        assert (seen, token) == ([5, 4, 3, 2, 1], "")

    async def test_every_line_goes_on_from_the_one_before_also_under_races(
        self, shop: Stockroom
    ) -> None:
        variant = await shop.variant(0)
        await asyncio.gather(*(shop.adjust(variant, 1) for _ in range(40)))
        assert [line.on_hand for line in await shop.ledger(variant)] == list(range(40, 0, -1))

    async def test_sales_and_returns_name_their_order(self, shop: Stockroom) -> None:
        variant = await shop.variant(5)
        id = order()
        await shop.reserve(id, (variant, 2))
        await shop.commit(id)
        await shop.release(id, restock=True)
        back, sale, _ = await shop.ledger(variant)
        assert (sale.change, sale.on_hand, sale.reason) == (-2, 3, StockMovement.SALE)
        assert (back.change, back.on_hand, back.reason) == (2, 5, StockMovement.RETURN)
        assert {(line.order_id, line.user_id) for line in (back, sale)} == {(id, "")}

    async def test_the_ledger_outlives_its_variant(self, shop: Stockroom) -> None:
        first, second = [NewVariant(options={"size": size}, price=EUR_10, stock=5) for size in "ML"]
        product = await shop.product(first, second)
        variant = product.variants[1]
        await shop.catalog.DeleteVariant(
            DeleteVariantRequest(product_id=product.id, id=variant.id), metadata=shop.staff()
        )
        assert [line.change for line in await shop.ledger(variant)][-1] == 5

    async def test_an_unknown_variant_is_not_found(self, shop: Stockroom) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.ledger(Variant(id=str(uuid7())))

    async def test_another_variants_page_token_is_refused(self, shop: Stockroom) -> None:
        one, other = await shop.variants(2, 1)
        await shop.adjust(one, 1)
        page = await shop.catalog.ListStockMovements(
            ListStockMovementsRequest(variant_id=one.id, page_size=1), metadata=shop.staff()
        )
        request = ListStockMovementsRequest(variant_id=other.id, page_token=page.next_page_token)
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await shop.catalog.ListStockMovements(request, metadata=shop.staff())

    async def test_customers_do_not_see_it(self, shop: Stockroom, customer: User) -> None:
        request = ListStockMovementsRequest(variant_id=str(uuid7()))
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await shop.catalog.ListStockMovements(request, metadata=customer())

    async def test_it_takes_one_statement(self, shop: Stockroom, served: Running) -> None:
        variant = await shop.variant(5)
        async with served.counting() as statements:
            await shop.ledger(variant)
        assert len(statements) == 1


class TestBatchGetVariants:
    async def get(
        self, shop: Stockroom, variant_ids: list[str], product_ids: list[str]
    ) -> list[VariantSnapshot]:
        answer = await shop.stock.BatchGetVariants(
            BatchGetVariantsRequest(variant_ids=variant_ids, product_ids=product_ids),
            metadata=callers.service("cart"),
        )
        return list(answer.variants)

    async def test_a_snapshot_has_what_a_cart_shows(self, shop: Stockroom) -> None:
        media = [Media(url=f"https://pictures.example/{n}", alt=f"Picture {n}") for n in (1, 2)]
        new = NewVariant(
            sku="S-1",
            options={"size": "M"},
            price=Money(currency_code="JPY", units=1200),
            weight_grams=300,
            stock=7,
            allow_backorder=True,
        )
        product = await shop.product(new, slug="thing", media=media)
        variant = product.variants[0]
        await shop.reserve(order(), (variant, 3))
        (snapshot,) = await self.get(shop, [variant.id], [])
        assert snapshot == VariantSnapshot(
            id=variant.id,
            product_id=product.id,
            product_name="Thing",
            product_slug="thing",
            product_state=Product.ACTIVE,
            sku="S-1",
            options={"size": "M"},
            price=Money(currency_code="JPY", units=1200),
            weight_grams=300,
            available=4,
            allow_backorder=True,
            media=media[0],
            is_default=True,
        )

    async def test_a_product_means_its_default_variant(self, shop: Stockroom) -> None:
        sizes = [NewVariant(options={"size": size}, price=EUR_10) for size in "ML"]
        product = await shop.product(*sizes)
        second = product.variants[1].id
        await shop.catalog.UpdateProduct(
            UpdateProductRequest(id=product.id, default_variant_id=second), metadata=shop.staff()
        )
        assert [found.id for found in await self.get(shop, [], [product.id])] == [second]

    async def test_each_is_there_once_and_the_unknown_are_left_out(self, shop: Stockroom) -> None:
        one, other = await shop.variants(2, 1)
        ids = [one.id, one.id, other.id, str(uuid7())]
        found = await self.get(shop, ids, [one.product_id, str(uuid7())])
        assert sorted(item.id for item in found) == sorted([one.id, other.id])

    async def test_nothing_asked_is_nothing_answered(self, shop: Stockroom) -> None:
        assert await self.get(shop, [], []) == []

    async def test_archived_products_are_told_as_such(self, shop: Stockroom) -> None:
        variant = await shop.variant(1)
        await shop.catalog.DeleteProduct(
            DeleteProductRequest(id=variant.product_id), metadata=shop.staff()
        )
        (found,) = await self.get(shop, [variant.id], [])
        assert found.product_state == Product.ARCHIVED
        assert not found.HasField("media")

    async def test_what_is_owed_is_not_available(self, shop: Stockroom) -> None:
        variant = await shop.variant(1, backorder=True)
        await shop.reserve(order(), (variant, 4))
        (found,) = await self.get(shop, [variant.id], [])
        assert found.available == 0

    async def test_it_takes_one_statement(self, shop: Stockroom, served: Running) -> None:
        variants = await shop.variants(12, 1)
        async with served.counting() as statements:
            found = await self.get(
                shop, [item.id for item in variants[:6]], [item.product_id for item in variants[6:]]
            )
        assert len(found) == 12
        assert len(statements) == 1

    async def test_it_is_for_services(self, shop: Stockroom) -> None:
        for caller in (NOBODY, shop.staff()):
            with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
                await shop.stock.BatchGetVariants(BatchGetVariantsRequest(), metadata=caller)


class TestUpdateVariant:
    async def test_backorders_cannot_end_while_more_is_reserved_than_there_is(
        self, shop: Stockroom
    ) -> None:
        variant = await shop.variant(1, backorder=True)
        await shop.reserve(order(), (variant, 2))
        request = UpdateVariantRequest(product_id=variant.product_id, id=variant.id)
        request.update_mask.paths.append("allow_backorder")
        with refused(StatusCode.FAILED_PRECONDITION, "STOCK_RESERVED"):
            await shop.catalog.UpdateVariant(request, metadata=shop.staff())


class TestDeleteVariant:
    async def test_a_variant_that_orders_hold_stays(self, shop: Stockroom) -> None:
        sizes = [NewVariant(options={"size": size}, price=EUR_10, stock=5) for size in "ML"]
        product = await shop.product(*sizes)
        variant = product.variants[1]
        id = order()
        await shop.reserve(id, (variant, 1))
        request = DeleteVariantRequest(product_id=product.id, id=variant.id)
        with refused(StatusCode.FAILED_PRECONDITION, "STOCK_RESERVED"):
            await shop.catalog.DeleteVariant(request, metadata=shop.staff())
        await shop.release(id)
        await shop.catalog.DeleteVariant(request, metadata=shop.staff())
