"""What `shop doctor` looks at around a database: the pooler before it, the replica beside it."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from cli.database import user_of, without_password
from cli.examinations import Finding, ill, odd, well
from services.kit import replica as reads
from services.kit.sessions import SESSION

# How long a replica gets to show what has just been written.
CATCH_UP_SECONDS = 5.0
# Far behind for a replica: services read none that is this late.
LATE_SECONDS = 2.0


async def pooler(service: str, url: str) -> Finding:
    """Whether a service comes through, and finds its limits behind it."""
    what = f"{service} through the pooler at {without_password(url)}"
    try:
        connection = await asyncpg.connect(url, timeout=5, statement_cache_size=0)
        try:
            limits = {name: await connection.fetchval(f"SHOW {name}") for name in SESSION}
        finally:
            await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        why = str(error) or type(error).__name__
        return ill(f"{what} cannot be reached: {why}", "Is it running? Does it know the role?")
    missing = [f"{name} = '{value}'" for name, value in SESSION.items() if limits[name] != value]
    if missing:
        return ill(
            f"{what} has no limits of its own",
            "shop migrate, or where the role is not its own:\n"
            + "\n".join(f"ALTER ROLE {user_of(url)} SET {each};" for each in missing)
            + "\nSessions that the pooler has open keep what they began with: RECONNECT it.",
        )
    return well(f"{what} works, with its limits")


async def replica(service: str, url: str, primary_url: str) -> Finding:
    """Whether it follows the primary, and how closely."""
    what = f"{service}'s replica at {without_password(url)}"
    advice = "The primary answers in its place. Is it running, and following the primary?"
    try:
        primary = await asyncpg.connect(primary_url, timeout=5)
        try:
            written = await primary.fetchval(reads.WRITTEN)
        finally:
            await primary.close()
        began = time.monotonic()
        copy = await asyncpg.connect(url, timeout=5)
        try:
            if not await copy.fetchval("SELECT pg_is_in_recovery()"):
                return odd(f"{what} is no replica: it follows nobody", advice)
            async with asyncio.timeout(CATCH_UP_SECONDS):
                while not await copy.fetchval(reads.REPLAYED, written):  # noqa: ASYNC110 - elsewhere
                    await asyncio.sleep(reads.LOOK_SECONDS)
        finally:
            copy.terminate()
    except TimeoutError:
        return odd(f"{what} is more than {CATCH_UP_SECONDS:.0f} s behind", advice)
    except (OSError, ValueError, asyncpg.PostgresError) as error:
        why = str(error) or type(error).__name__
        return odd(f"{what} cannot be read: {why}", advice)
    lag = time.monotonic() - began
    if lag > LATE_SECONDS:
        return odd(f"{what} is {lag:.1f} s behind", advice)
    return well(f"{what} follows, {lag * 1000:.0f} ms behind")
