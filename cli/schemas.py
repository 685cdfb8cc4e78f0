"""Whether the schemas are what this version of the shop has, without loading what changes them.

Alembic takes longer to load than everything else of `shop up`, and most starts have nothing to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import asyncpg

import migrations
from cli.database import Databases, Place, connect
from cli.programs import StartError

FOLDER = Path(migrations.__file__).parent


def newest(service: str) -> str:
    """The newest migration of a service, by the names of the files: `0002_erasure.py` is `0002`."""
    files = (FOLDER / service / "versions").glob("[0-9]*_*.py")
    return max(file.name.partition("_")[0] for file in files)


async def is_current(databases: Databases, services: Iterable[str]) -> bool:
    """Whether each service can log in by its own URL, and finds the newest schema there.

    Where it is not so, `migrate.migrate` does what is missing, or says why it cannot.
    """
    for place in databases.places(services):
        if place.roles and not await _has_begun(place):
            return False
    found = await asyncio.gather(
        *(_is_current(databases.services[service], service) for service in services)
    )
    return all(found)


async def _has_begun(place: Place) -> bool:
    """Whether the owner finds the schemas; before that Postgres would complain of unknown roles."""
    try:
        connection = await connect(place.url, application_name="shop up")
    except StartError:
        return False
    try:
        statement = "SELECT count(*) FROM pg_namespace WHERE nspname = ANY($1::text[])"
        return bool(await connection.fetchval(statement, place.services) == len(place.services))
    finally:
        await connection.close()


async def _is_current(url: str, service: str) -> bool:
    try:
        connection = await connect(url, application_name="shop up")
    except StartError:
        return False
    try:
        statement = f'SELECT version_num FROM "{service}".alembic_version'  # noqa: S608
        found = await connection.fetchval(statement)
    except asyncpg.PostgresError:
        return False
    finally:
        await connection.close()
    return bool(found == newest(service))
