"""How xdist shares the tests out: a file at a time, the longest first, those of one shop together.

What is first in `LONGEST` is begun first, so that nobody works alone on something long at the end;
what waits most of its time stands between what computes. The rest follow by their number of tests.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

# A shop takes seconds to start, and its rows are counted: those who use one stay together.
SHOPS = {
    "tests/e2e/": "the shop of e2e",
    "tests/faults/": "the shop of faults",
}
# Except for those that start a shop of their own, ...
OWN = {
    "tests/e2e/test_elsewhere.py",
    "tests/e2e/test_fuzz.py",
    "tests/e2e/test_key_rotation.py",
    "tests/e2e/test_traces.py",
    "tests/faults/test_chaos.py",
    "tests/faults/test_failover.py",
    "tests/faults/test_replicas.py",
    "tests/faults/test_shop_up.py",
}
# ... and of half of e2e, which has another one.
SECOND = "the second shop of e2e"
SECOND_HALF = {
    "tests/e2e/test_access.py",
    "tests/e2e/test_account_stories.py",
    "tests/e2e/test_documentation.py",
    "tests/e2e/test_login_flood.py",
    "tests/e2e/test_readme.py",
    "tests/e2e/test_web_client.py",
}
LONGEST = (
    "the shop of e2e",
    SECOND,
    "tests/payment/test_crashes.py",
    "tests/cli/test_up.py",
    "tests/faults/test_chaos.py",
    "the shop of faults",
    "tests/order/test_crashes.py",
    "tests/faults/test_replicas.py",
    "tests/payment/test_reconciler.py",
    "tests/e2e/test_fuzz.py",
    "tests/faults/test_failover.py",
    "tests/e2e/test_key_rotation.py",
    "tests/e2e/test_elsewhere.py",
    "tests/cli/test_postgres.py",
    "tests/e2e/test_traces.py",
    "tests/cli/test_backup.py",
    "tests/faults/test_shop_up.py",
    "tests/payment/test_gateway_trouble.py",
    "tests/catalog/test_lists_random.py",
    "tests/edge/test_faults.py",
    "tests/cli/test_seed_shop.py",
    "tests/catalog/test_shelf.py",
    "tests/payment/test_refunds.py",
    "tests/order/test_watching.py",
    "tests/sandbox/test_server.py",
    "tests/order/test_random.py",
    "tests/cli/test_migrate.py",
    "tests/kit/test_process.py",
    "tests/kit/test_collector_away.py",
    "tests/edge/test_floods.py",
    "tests/edge/test_tokens.py",
    "tests/cli/test_forks.py",
    "tests/order/test_races.py",
    "tests/catalog/test_reservations_random.py",
    "tests/edge/test_limits.py",
)


def together(nodeid: str) -> str:
    """The name of what a test is run together with, one after the other: its file, or a shop."""
    file = nodeid.partition("::")[0]
    if file in SECOND_HALF:
        return SECOND
    if file in OWN:
        return file
    return next((shop for folder, shop in SHOPS.items() if file.startswith(folder)), file)


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]
    """Like `--dist loadfile`, with `together` for a file."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        """Give a worker what is next; something short when it is still busy with something long.

        A worker is always given more before it has ended the last test of what it has.
        """
        busy = {name for name, tests in self.assigned_work[node].items() if not all(tests.values())}
        if not busy.isdisjoint(LONGEST):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongestFirst | None:
    """Called by xdist in the controlling process."""
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # the order is that of the collection, as below
    return LongestFirst(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker: what is to be begun first comes first."""
    if not hasattr(config, "workerinput"):
        return
    counts = Counter(together(item.nodeid) for item in items)

    def rank(item: pytest.Item) -> tuple[int, int]:
        name = together(item.nodeid)
        return (LONGEST.index(name) if name in LONGEST else len(LONGEST), -counts[name])

    items.sort(key=rank)
