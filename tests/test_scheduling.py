"""How tests are shared out among processes."""

from __future__ import annotations

import pytest

from tests.scheduling import LONGEST, OWN, SECOND, SECOND_HALF, SHOPS, together
from tests.shop import ROOT
from tools.workers import workers


def test_what_is_named_is_there() -> None:
    names = {*LONGEST, *OWN, *SECOND_HALF} - {SECOND, *SHOPS.values()}
    assert [name for name in sorted(names) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/kit/test_db.py::TestPool::test_one[a::b]", "tests/kit/test_db.py"),
        ("tests/e2e/test_logs.py::test_one", "the shop of e2e"),
        ("tests/e2e/test_access.py::test_one", SECOND),
        ("tests/e2e/test_fuzz.py::test_one", "tests/e2e/test_fuzz.py"),
        ("tests/faults/test_killed.py::test_one", "the shop of faults"),
    ],
)
def test_a_file_stays_together_and_so_do_those_of_one_shop(nodeid: str, name: str) -> None:
    assert together(nodeid) == name


@pytest.mark.parametrize(
    ("cores", "gib", "processes"), [(2, 8, 4), (2, 2, 1), (1, 16, 2), (64, 256, 8), (4, 0.5, 1)]
)
def test_processes_suit_cores_and_memory(cores: int, gib: float, processes: int) -> None:
    assert workers(cores, int(gib * 2**30)) == processes
