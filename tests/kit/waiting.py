"""Waiting in tests: for what happens, not for how long it should take on an idle machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# At once, on a machine that has much else to do. What is not at once takes longer by far.
AT_ONCE = 10.0


async def until(condition: Callable[[], bool], *, seconds: float = 2 * AT_ONCE) -> None:
    """Return when the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
