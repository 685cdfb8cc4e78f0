"""What can be measured: what is called again and again, over the network or by pgbench."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from bench.load import Load, Measured
from bench.sending import send


class Subject(Protocol):
    """One row of the table."""

    name: str
    paced: bool
    """Whether it can be called at a given rate, too."""

    async def measure(self, seconds: float, at_once: int, rate: float | None = None) -> Measured:
        """Call it for so long. Raises RuntimeError for what is not answered as expected."""
        ...


@dataclass
class Calls:
    """Calls over the network; `answered` counts them all, for the check of effects."""

    name: str
    load: Load
    paced: bool = True
    answered: int = 0

    async def measure(self, seconds: float, at_once: int, rate: float | None = None) -> Measured:
        load = replace(self.load, seconds=seconds, at_once=at_once, rate=rate)
        measured = await send(load)
        self.answered += len(measured.microseconds)
        return measured


@dataclass
class Transactions:
    """Transactions of pgbench."""

    name: str
    run: Callable[[float, int], Awaitable[Measured]]
    paced: bool = False
    answered: int = 0

    async def measure(self, seconds: float, at_once: int, rate: float | None = None) -> Measured:
        measured = await self.run(seconds, at_once)
        if not measured.microseconds:
            raise RuntimeError(f"{self.name}: none came to its end in {seconds:.1f} s")
        self.answered += len(measured.microseconds)
        return measured
