"""A Postgres that has just been migrated: made once in a run of tests, copied for each shop.

Making and migrating it takes half of a shop's first start, which has tests of its own in
`cli/test_up.py`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from cli.data_folder import DataFolder

# Where this run keeps it, if it keeps one (`tests.postgres_fixtures`).
VARIABLE = "SHOP_TEST_MIGRATED"
SHOP = Path(sys.executable).with_name("shop")


def copy_into(data: Path) -> bool:
    """Put a copy where the data folder of a new shop is to be; whether this run has one."""
    kept = os.environ.get(VARIABLE)
    if kept is None or data.exists():
        return False
    made = _made(Path(kept))
    new = DataFolder(data)
    new.postgres_password.parent.mkdir(mode=0o700, parents=True)
    data.chmod(0o700)
    # With their owner, who is not the one who copies.
    for old, path in (
        (made.postgres, new.postgres),
        (made.postgres_password, new.postgres_password),
    ):
        subprocess.run(["cp", "-a", old, path], check=True)
    return True


def _made(folder: Path) -> DataFolder:
    """It appears complete, for all test processes."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            subprocess.run(
                [SHOP, "migrate", "--data", unfinished],
                check=True,
                capture_output=True,
                env={name: value for name, value in os.environ.items() if name[:5] != "SHOP_"},
            )
            # What is committed outlives every process, if not the machine.
            with (DataFolder(unfinished).postgres / "postgresql.conf").open("a") as settings:
                settings.write("fsync = off\n")
            unfinished.rename(folder)
    return DataFolder(folder)
