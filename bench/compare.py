"""The shop beside a bare echo, beside its own SQL, and beside its peers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from bench import (
    cost,
    echo,
    effects,
    goals,
    plain_sql,
    processes,
    reads_sql,
    rounds,
    shop as shops,
    shop_loads,
    size,
)
from bench.cost import Cost
from bench.goals import ECHO
from bench.peers import serve
from bench.peers.serve import DRF, FASTAPI, Peer
from bench.processes import SERVICES
from bench.rounds import Figures, Plan
from bench.shop import Shop
from bench.shop_loads import LINES, Goods
from bench.subjects import Calls, Transactions

STARTS = 3


@dataclass(frozen=True)
class Outcome:
    """Everything of one run."""

    products: int
    commit: str
    load_average: float
    """Of the minute before: the machine's other work, when nothing had been measured yet."""
    stolen: float
    """The share of the cores' time that the machine's host kept for others, meanwhile."""
    figures: Mapping[str, Figures]
    costs: Mapping[str, Cost]
    start_seconds: float
    sizes: Mapping[str, tuple[float, float]]
    imports: Mapping[str, size.Imports]
    effects: Sequence[str]
    goals: Sequence[goals.Row]

    def as_json(self) -> dict[str, Any]:
        """With what follows from it."""
        plain = asdict(self)
        for name, one in self.figures.items():
            plain["figures"][name] |= {
                "rate": one.rate,
                "ratio_to_echo": one.ratio_to(self.figures[ECHO]),
                "ratio_to_FastAPI": to_peer(self.figures, name, FASTAPI),
                "ratio_to_DRF": to_peer(self.figures, name, DRF),
                "ratio_to_sql": to_sql(self.figures, name),
            }
        return plain | {"cores": os.cpu_count(), "at_once": rounds.AT_ONCE}


def to_peer(figures: Mapping[str, Figures], name: str, peer: str) -> float | None:
    """The ratio to the same call of a peer, for REST calls that it answers too."""
    call, _, way = name.partition(", ")
    other = figures.get(f"{call.removesuffix(' of any')}, {peer}")
    return None if way != "REST" or other is None else figures[name].ratio_to(other)


def to_sql(figures: Mapping[str, Figures], name: str) -> float | None:
    """The ratio to the same call's SQL by pgbench."""
    call, _, way = name.partition(", ")
    other = figures.get(f"{call}, its SQL by pgbench")
    return None if way not in ("REST", "gRPC") or other is None else figures[name].ratio_to(other)


async def run(
    products: int, growth: Mapping[str, Any] | None, plan: Plan, console: Console
) -> Outcome:
    """Start everything, measure, check."""
    load_average = os.getloadavg()[0]
    began, stolen = time.monotonic(), processes.stolen_seconds()
    async with AsyncExitStack() as stack:
        with console.status("starting the shop, loading it, starting it again"):
            shop = await stack.enter_async_context(
                shops.running(products, min(STARTS, plan.rounds))
            )
            some = await shop_loads.goods(shop)
            peers = [
                await stack.enter_async_context(serve.running(shop, name))
                for name in (FASTAPI, DRF)
            ]
        subjects = await stack.enter_async_context(_subjects(shop, peers, some))
        before = await effects.count(shop)
        figures = await rounds.measure(subjects, console, plan)
        with console.status("what a call costs"):
            costs = await cost.costs(shop, peers, subjects, 4 * plan.busy / 3)
        said = await _check(shop, peers, subjects, before)
        sizes = size.memory(shop)
    with console.status("imports"):
        imports = {name: size.imports(name) for name in SERVICES}
    return Outcome(
        products,
        _commit(),
        load_average,
        (processes.stolen_seconds() - stolen) / (time.monotonic() - began) / (os.cpu_count() or 1),
        figures,
        costs,
        shop.second_start_seconds,
        sizes,
        imports,
        said,
        goals.rows(figures, shop.second_start_seconds, size.services_rss(sizes), growth),
    )


@asynccontextmanager
async def _subjects(
    shop: Shop, peers: Sequence[Peer], some: Goods
) -> AsyncIterator[list[Calls | Transactions]]:
    """All that take turns; a call, its SQL and the same call of the peers stand together."""
    with echo.running(some.product) as port:
        loads = shop_loads.reads(shop, some) | shop_loads.purchases(shop, some)
        for peer in peers:
            loads |= await serve.loads(peer, shop, some)
        found: list[Calls | Transactions] = [
            Calls(ECHO, echo.load(port, some.product)),
            *(Calls(name, one) for name, one in loads.items()),
            *await reads_sql.subjects(shop, some),
            await plain_sql.subject(shop),
        ]
        order = list(loads)
        found.sort(key=lambda one: _place(one.name, order))
        yield found
        await plain_sql.remove(shop)


def _place(name: str, order: Sequence[str]) -> tuple[int, bool]:
    call = name.partition(", ")[0]
    same = [number for number, other in enumerate(order) if other.startswith(call)]
    return (min(same, default=-1), "SQL" in name)


async def _check(
    shop: Shop,
    peers: Sequence[Peer],
    subjects: Sequence[Calls | Transactions],
    before: dict[str, int],
) -> list[str]:
    answered = {one.name: one.answered for one in subjects}
    orders = answered[shop_loads.CREATE_ORDER] + answered[shop_loads.CREATE_ORDER_SQL]
    theirs = {peer.name: answered[f"CreateOrder of {LINES}, {peer.name}"] for peer in peers}
    return [
        await effects.check(shop, before, orders, answered[shop_loads.ADD_ITEM]),
        await effects.check_peers(shop, peers, theirs),
    ]


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
