"""What the shop wants to reach, by name, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench import shop_loads as names
from bench.pages import PAGE
from bench.rounds import Figures
from bench.shop_loads import LINES

ECHO = "echo, bare grpc.aio"
GROWTH = "python -m bench growth products --most 1000000"
# Of what growth measures.
ORDERS = ("newest", "by price", "by name", "category")
SEARCHES = (
    "q, in all products",
    "q, in many names",
    "q, in many descriptions",
    "q, two words",
    "q, three words",
    "q, rare",
    "q, typing error",
)


@dataclass(frozen=True)
class Row:
    """A goal and what was measured."""

    name: str
    goal: str
    measured: str
    reached: bool | None


def rows(
    figures: Mapping[str, Figures],
    start_seconds: float,
    services_rss: float,
    growth: Mapping[str, Any] | None,
) -> list[Row]:
    """Every goal, in the order in which they were set."""

    def ratio(name: str, subject: str, other: str, least: float | None) -> Row:
        found = figures[subject].ratio_to(figures[other])
        goal = "stated" if least is None else f"≥ {least:g}"
        return Row(name, goal, f"{found:.2f}", None if least is None else found >= least)

    steady = {
        subject: one.spread_at_half
        for subject, one in figures.items()
        if one.spread_at_half is not None and subject in names.THROUGH_THE_EDGE
    }
    worst = max(steady, key=lambda subject: steady[subject])
    drf_order = f"CreateOrder of {LINES}, DRF"
    order = f"CreateOrder ({LINES} lines, REST)"
    return [
        ratio("GetProduct gRPC / echo", names.GET_GRPC, ECHO, 0.9),
        ratio("GetProduct REST / FastAPI", names.GET, "GetProduct, FastAPI", 3),
        ratio(
            f"ListProducts({PAGE}) REST / FastAPI",
            names.LIST,
            f"ListProducts of {PAGE}, FastAPI",
            2.5,
        ),
        ratio(
            f"{order} / FastAPI's one transaction",
            names.CREATE_ORDER,
            f"CreateOrder of {LINES}, FastAPI",
            1.2,
        ),
        ratio(
            "CreateOrder / pgbench of its own SQL", names.CREATE_ORDER, names.CREATE_ORDER_SQL, None
        ),
        ratio("AddItem REST / DRF order", names.ADD_ITEM, drf_order, 3),
        Row(
            "p99 at 50 % of saturation / p50",
            "≤ 4",
            f"{steady[worst]:.1f} ({worst}, the worst of {len(steady)};"
            f" the echo alone {figures[ECHO].spread_at_half:.1f})",
            steady[worst] <= 4,
        ),
        *_grown(growth),
        Row(
            "second start of `shop up` to the first 200",
            "≤ 3 s",
            f"{start_seconds:.1f} s",
            start_seconds <= 3,
        ),
        Row("RSS of all five services", "≤ 500 MB", f"{services_rss:.0f} MB", services_rss <= 500),
    ]


def _grown(growth: Mapping[str, Any] | None) -> list[Row]:
    page, search = (
        "page 1,000 / page 1 at 1,000,000 products",
        "search p99 at 1,000,000 / at 10,000",
    )
    lists = (growth or {}).get("products", {})
    if "1000000" not in lists.get(f"{ORDERS[0]}, page 1", {}):
        return [Row(page, "≤ 1.2", f"`{GROWTH}`", None), Row(search, "≤ 3", f"`{GROWTH}`", None)]
    deeper = {
        name: lists[f"{name}, page 1,000"]["1000000"]["p50"]
        / lists[f"{name}, page 1"]["1000000"]["p50"]
        for name in ORDERS
    }
    deepest = max(deeper, key=lambda name: deeper[name])
    worse = {name: lists[name]["1000000"]["p99"] / lists[name]["10000"]["p99"] for name in SEARCHES}
    worst = max(worse, key=lambda name: worse[name])
    return [
        Row(
            page,
            "≤ 1.2",
            f"{deeper[deepest]:.2f} ({deepest}, the worst)",
            deeper[deepest] <= 1.2,
        ),
        Row(search, "≤ 3", f"{worse[worst]:.2f} ({worst}, the worst)", worse[worst] <= 3),
    ]
