"""E14: each migration is applied while the release before it is called a hundred times a second.

The releases before are in the history of the repository: for each commit that brought migrations,
its parent's code runs a shop, and the commit's own code migrates it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.traffic import paced
from tests.shop import ROOT, SHOP, command, running
from tests.siege.report import Report
from tests.siege.shopping import Shopping
from tests.visitors import visiting

NO_FAULT_BELOW = 500


def git(*arguments: str | Path) -> str:
    """What git says."""
    done = subprocess.run(
        ["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def steps() -> dict[str, list[str]]:
    """The commits that brought migrations after a service's first one, oldest first, with these.

    Empty where there is no history.
    """
    with contextlib.suppress(subprocess.CalledProcessError):
        told = git(
            *("log", "--reverse", "--diff-filter=A", "--no-renames", "--name-only"),
            *("--format=%H", "--", "migrations/*/versions/*.py"),
        )
        found: dict[str, list[str]] = {}
        commit = ""
        for line in filter(None, told.splitlines()):
            if "/" not in line:
                commit = line
            elif not line.rpartition("/")[2].startswith("0001"):
                found.setdefault(commit, []).append(line)
        return found
    return {}


def later() -> list[Path]:
    """All migrations after the first one of a service."""
    every = (ROOT / "migrations").glob("*/versions/*.py")
    return [path for path in every if not path.name.startswith("0001")]


@contextlib.contextmanager
def tree(commit: str, folder: Path) -> Iterator[dict[str, str]]:
    """The code of a commit; the variables with which Python takes it instead of what is here."""
    git("worktree", "add", "--detach", "--quiet", folder, commit)
    try:
        yield {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'generated'}"}
    finally:
        git("worktree", "remove", "--force", folder)


async def migrate(report: Report, folder: Path, *, rate: float, seconds: float) -> None:
    """Apply all steps, each to a shop of its own."""
    found = steps()
    report.check(bool(found), "there is no history with migrations")
    for commit, names in found.items():
        parts = [Path(name).parts for name in names]
        what = ", ".join(f"{service} {file.removesuffix('.py')}" for _, service, _, file in parts)
        here = folder / commit[:12]
        with tree(f"{commit}^", here / "before") as old, tree(commit, here / "after") as new:
            async with (
                running(here / "shop", "--port", "0", "--demo", **old) as up,
                visiting(up) as shop,
            ):
                shopping = await Shopping.begin(shop)
                async with (
                    paced(shopping.read(), rate / 2) as reads,
                    paced(shopping.write(insist=False), rate / 2) as writes,
                ):
                    await asyncio.sleep(seconds / 2)
                    told = os.environ | new | {"SHOP_DATABASE_URL": shop.ready.database_url}
                    done = await command(SHOP, "migrate", env=told, cwd=here)
                    await asyncio.sleep(seconds / 2)
        report.check(done.returncode == 0, f"{what}: {done.stdout}{done.stderr}")
        report.check(
            all(Path(name).stem.split("_")[0] in done.stdout for name in names),
            f"{what} was not applied: {done.stdout}",
        )
        calls = [*reads.calls, *writes.calls]
        failed = [
            call
            for call in calls
            if call.answer is None or call.answer.status_code >= NO_FAULT_BELOW
        ]
        slowest = max(call.seconds for call in calls)
        report.note(
            what, f"{len(calls)} calls, 5xx: {len(failed)}, the slowest {slowest * 1e3:.0f} ms"
        )
        report.check(not failed, f"{what}: {sorted({call.reason for call in failed})}")
