"""What processes use: CPU time and memory, by the name that people know them by."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tests.shop import FORK_SERVER, Process, tree

_TICKS = os.sysconf("SC_CLK_TCK")
_SERVICE = re.compile(r"-m (?:services\.(\w+)|(sandbox)\.stripe)")
SERVICES = ("users", "catalog", "cart", "order", "payment")


def name_of(process: Process) -> str:
    """A service's name, or what else it is."""
    found = _SERVICE.search(process.command)
    if found:
        return found[1] or "Stripe sandbox"
    if process.command.startswith(FORK_SERVER):
        return "fork server"
    first = process.command.partition(" ")[0].rpartition("/")[2]
    if first.startswith("postgres"):
        return "Postgres"
    return {"envoy": "Envoy"}.get(first, "supervisor" if " up " in process.command else first)


def of_tree(pid: int) -> dict[str, list[Process]]:
    """A process and all that descend from it, by name."""
    found: dict[str, list[Process]] = {}
    for process in tree(pid):
        found.setdefault(name_of(process), []).append(process)
    return found


def cpu_seconds(processes: Sequence[Process]) -> float:
    """The CPU time they have used, in user and kernel mode, with children that have ended."""
    total = 0
    for process in processes:
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def stolen_seconds() -> float:
    """What the host of a virtual machine has kept from all cores, while they had work (proc(5))."""
    return int(Path("/proc/stat").read_text().split()[8]) / _TICKS


def memory_bytes(processes: Sequence[Process]) -> tuple[int, int]:
    """Their resident memory (RSS), and that with what is shared divided among its users (PSS)."""
    rss = pss = 0
    for process in processes:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            name, *value = line.split()
            rss += int(value[0]) * 1024 if name == "Rss:" else 0
            pss += int(value[0]) * 1024 if name == "Pss:" else 0
    return rss, pss
