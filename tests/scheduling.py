"""How xdist shares the tests out: a file at a time, and folders whose tests share a shop as one."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

# A shop takes seconds to start, its rows are counted, and faults are not to meet each other.
ONE_SHOP = ("tests/e2e/", "tests/faults/")


class OneShop(LoadFileScheduling):  # type: ignore[misc]
    """Like `--dist loadfile`, but for some folders."""

    def _split_scope(self, nodeid: str) -> str:
        return next(
            (folder for folder in ONE_SHOP if nodeid.startswith(folder)),
            nodeid.partition("::")[0],
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneShop | None:
    """Called by xdist in the controlling process."""
    return OneShop(config, log) if config.getvalue("dist") == "loadfile" else None
