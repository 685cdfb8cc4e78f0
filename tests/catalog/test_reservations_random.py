"""Any mixture of calls on stock: one by one as a model tells; at once, without losing a piece."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import asyncpg
from hypothesis import HealthCheck, given, settings, strategies as st

from services.catalog import sweeper
from shop.catalog.v1.catalog_pb2 import StockMovement, Variant
from tests.catalog import stockroom
from tests.catalog.stockroom import Stockroom, order, reason_of
from tests.postgres_fixtures import empty_all_tables
from tests.running import Running

PIECES = (4, 4, 0)
BACKORDER = 2

Kind = Literal["reserve", "commit", "release", "restock", "adjust", "expire"]


class Step(NamedTuple):
    """One call: for the order of this number, with lines of (number of the variant, pieces)."""

    kind: Kind
    order: int
    lines: tuple[tuple[int, int], ...]


items = st.tuples(st.integers(0, len(PIECES) - 1), st.integers(1, 3))
steps = st.builds(
    Step,
    st.sampled_from(Kind.__args__),  # type: ignore[attr-defined]
    st.integers(0, 3),
    st.lists(items, min_size=1, max_size=3).map(tuple),
)
calmly = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Model:
    """What ought to be, in the plainest terms."""

    on_hand: Counter[int] = field(default_factory=lambda: Counter(dict(enumerate(PIECES))))
    reserved: Counter[int] = field(default_factory=Counter)
    orders: dict[int, tuple[str, Counter[int], tuple[Any, ...]]] = field(default_factory=dict)

    def enough(self, demand: Counter[int]) -> bool:
        return all(
            variant == BACKORDER or self.on_hand[variant] - self.reserved[variant] >= pieces
            for variant, pieces in demand.items()
        )

    def take(self, step: Step) -> str:
        """Do a step; why it is refused, or ""."""
        state, demand, lines = self.orders.get(step.order, ("", Counter(), ()))
        refusal: str = getattr(self, step.kind)(step, state, demand, lines)
        return refusal

    def reserve(self, step: Step, state: str, _: Counter[int], lines: Any) -> str:
        if state == "active":
            return "" if lines == step.lines else "RESERVATION_MISMATCH"
        if state:
            return f"RESERVATION_{'COMMITTED' if state == 'committed' else 'RELEASED'}"
        demand: Counter[int] = Counter()
        for variant, pieces in step.lines:
            demand[variant] += pieces
        if not self.enough(demand):
            return "OUT_OF_STOCK"
        self.reserved.update(demand)
        self.orders[step.order] = "active", demand, step.lines
        return ""

    def commit(self, step: Step, state: str, demand: Counter[int], lines: Any) -> str:
        if state in ("", "released"):
            return "RESERVATION_RELEASED" if state else "RESOURCE_NOT_FOUND"
        if state == "expired" and not self.enough(demand):
            return "RESERVATION_EXPIRED"
        if state == "active":
            self.reserved.subtract(demand)
        if state != "committed":
            self.on_hand.subtract(demand)
        self.orders[step.order] = "committed", demand, lines
        return ""

    def release(self, step: Step, state: str, demand: Counter[int], lines: Any) -> str:
        if state == "committed" and step.kind == "release":
            return "RESERVATION_COMMITTED"
        if state == "committed":
            self.on_hand.update(demand)
        if state == "active":
            self.reserved.subtract(demand)
        self.orders[step.order] = "released", demand, lines
        return ""

    restock = release

    def adjust(self, step: Step, *_: Any) -> str:
        variant, change = change_of(step)
        if change < 0 and not self.enough(Counter({variant: -change})):
            return "STOCK_RESERVED"
        self.on_hand[variant] += change
        return ""

    def expire(self, step: Step, state: str, demand: Counter[int], lines: Any) -> str:
        if state == "active":
            self.reserved.subtract(demand)
            self.orders[step.order] = "expired", demand, lines
        return ""


def change_of(step: Step) -> tuple[int, int]:
    """Of which variant how many pieces an `adjust` adds or takes away."""
    variant, pieces = step.lines[0]
    return variant, pieces if step.order % 2 else -pieces


class Reality:
    """The same steps, on the service."""

    def __init__(self, shop: Stockroom, running: Running, connection: asyncpg.Connection) -> None:
        self._shop = shop
        self._running = running
        self._connection = connection
        self._orders = [order() for _ in range(4)]
        self._variants: list[Variant] = []

    async def begin(self) -> None:
        await empty_all_tables(self._connection)
        self._variants = [
            await self._shop.variant(pieces, backorder=number == BACKORDER)
            for number, pieces in enumerate(PIECES)
        ]

    async def take(self, step: Step) -> str:
        """Do a step; why it is refused, or ""."""
        id = self._orders[step.order]
        try:
            match step.kind:
                case "reserve":
                    lines = [(self._variants[number], pieces) for number, pieces in step.lines]
                    await self._shop.reserve(id, *lines)
                case "commit":
                    await self._shop.commit(id)
                case "release" | "restock":
                    await self._shop.release(id, restock=step.kind == "restock")
                case "adjust":
                    variant, change = change_of(step)
                    await self._shop.adjust(
                        self._variants[variant], change, StockMovement.CORRECTION
                    )
                case "expire":
                    async with self._running.database.connection() as connection:
                        await connection.execute(
                            "UPDATE catalog.reservations SET expire_time = now()"
                            " WHERE order_id = $1",
                            id,
                        )
                    await sweeper.free_expired(self._running.database)
        except Exception as error:
            return reason_of(error)
        return ""

    async def counts(self) -> list[tuple[int, int]]:
        return [await self._shop.now(variant) for variant in self._variants]


@settings(calmly, max_examples=60)
@given(program=st.lists(steps, min_size=1, max_size=15))
async def test_one_after_the_other_all_is_as_the_model_tells(
    shop: Stockroom, served: Running, owner_connection: asyncpg.Connection, program: list[Step]
) -> None:
    reality, model = Reality(shop, served, owner_connection), Model()
    await reality.begin()
    for step in program:
        assert await reality.take(step) == model.take(step), step
    numbers = range(len(PIECES))
    assert await reality.counts() == [(model.on_hand[n], model.reserved[n]) for n in numbers]
    await stockroom.audit(owner_connection)


@settings(calmly, max_examples=40)
@given(rounds=st.lists(st.lists(steps, min_size=2, max_size=12), min_size=1, max_size=5))
async def test_all_at_once_no_piece_is_lost(
    shop: Stockroom,
    served: Running,
    owner_connection: asyncpg.Connection,
    rounds: list[list[Step]],
) -> None:
    reality = Reality(shop, served, owner_connection)
    await reality.begin()
    for at_once in rounds:
        refusals = await asyncio.gather(*(reality.take(step) for step in at_once))
        assert all(
            refusal in ("", "OUT_OF_STOCK", "STOCK_RESERVED", "RESOURCE_NOT_FOUND")
            or refusal.startswith("RESERVATION_")
            for refusal in refusals
        )
        await stockroom.audit(owner_connection)
