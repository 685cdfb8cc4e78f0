"""`shop doctor`: is everything there that the shop needs, and if not, what is to be done?

It changes nothing. What it looks at is what the environment names, as a container is told, or else
a shop on this machine and its data folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from rich.console import Console

from cli import beside_databases, examinations, migrate
from cli.data_folder import DataFolder
from cli.database import (
    Databases,
    Place,
    databases_from,
    databases_of,
    setting,
    user_of,
    without_password,
)
from cli.examinations import Finding, Health, ill, odd, well
from cli.postgres import Cluster
from cli.postgres_binaries import OLDEST_MAJOR
from cli.programs import StartError

MOST_SECONDS_APART = 2.0
LONGEST_WAIT_SECONDS = 60
# Connections of a process beside its pool: one asks whether Postgres is there, one listens.
BESIDE_THE_POOL = 2
KEPT_FREE = 15
COLOURS = {Health.WELL: "green", Health.ODD: "yellow", Health.ILL: "bold red"}


async def examine(data: Path, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Everything that can be looked at."""
    folder = DataFolder(data)
    found = list(examinations.programs())
    named = databases_from(environment)
    running = examinations.running(folder)
    if named is not None:
        found += examinations.configuration(named.services, environment)
        if signing := setting(environment, "SHOP_USERS_SIGNING_KEYS"):
            found += examinations.keys(Path(signing))
        found += await examinations.servers(examinations.addresses_from(environment))
        found += await examinations.others(environment)
        return found + await _databases(named)
    found += examinations.disk(data)
    if not folder.path.exists():
        found += examinations.ports()
        return [*found, odd(f"{data} does not exist", "`shop up` makes it.")]
    found += examinations.keys(folder.keys)
    cluster = Cluster(folder.postgres, folder.postgres_password, port=0).found_running()
    if running is None or cluster is None:
        found += examinations.ports()
        return [*found, odd("the shop is not running", "shop up")]
    found += await examinations.servers(running.services)
    found.append(await examinations.the_edge(running.edge))
    return found + await _databases(databases_of(cluster.url()))


def show(findings: Iterable[Finding], console: Console) -> bool:
    """Print what was found; whether nothing is ill."""
    sorted_out = list(findings)
    for finding in sorted_out:
        console.print(f"[{COLOURS[finding.health]}]{finding.health.value:>4}[/]", end="  ")
        console.print(finding.what, markup=False)
        for line in finding.advice.splitlines():
            console.print(f"        {line}", markup=False, style="dim")
    ill_ones = sum(finding.health is Health.ILL for finding in sorted_out)
    console.print("Everything works." if not ill_ones else f"{ill_ones} of these do not work.")
    return not ill_ones


async def _databases(databases: Databases) -> list[Finding]:
    found: list[Finding] = []
    for place in databases.places():
        found += await _database(place)
    for service, url in databases.services.items():
        found.append(await _role(service, url))
    for service, url in databases.poolers.items():
        found.append(await beside_databases.pooler(service, url))
    for service, url in databases.replicas.items():
        primary = databases.services[service]
        found.append(await beside_databases.replica(service, url, primary))
    return found


async def _database(place: Place) -> list[Finding]:
    shown = without_password(place.url)
    try:
        connection = await asyncpg.connect(place.url, timeout=5)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        why = str(error) or type(error).__name__
        return [ill(f"{shown} cannot be reached: {why}", "Is Postgres running? Check the URL.")]
    try:
        found = [await _version(connection, shown), await _clock(connection)]
        found += await _durability(connection)
        found.append(await _room(connection))
        found += await _migrations(place)
        found += await _outboxes(connection, place)
    finally:
        await connection.close()
    return found


async def _version(connection: asyncpg.Connection, shown: str) -> Finding:
    version = await connection.fetchval("SHOW server_version")
    if int(version.split(".")[0]) < OLDEST_MAJOR:
        return ill(
            f"{shown} is Postgres {version}", f"The shop needs Postgres {OLDEST_MAJOR} or newer."
        )
    return well(f"{shown} is Postgres {version}")


async def _clock(connection: asyncpg.Connection) -> Finding:
    before = datetime.now(UTC)
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    ours = before + (datetime.now(UTC) - before) / 2
    apart = abs((theirs - ours).total_seconds())
    if apart > MOST_SECONDS_APART:
        return ill(
            f"the clocks of Postgres and this machine are {apart:.1f} s apart",
            "Tokens and webhooks are judged by the clock: have both set it (chrony, timesyncd).",
        )
    return well(f"the clocks of Postgres and this machine are {apart * 1000:.0f} ms apart")


async def _durability(connection: asyncpg.Connection) -> list[Finding]:
    settings = {
        row["name"]: row["setting"]
        for row in await connection.fetch(
            "SELECT name, setting FROM pg_settings"
            " WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'archive_mode')"
        )
    }
    found = [
        ill(f"{name} is off: a crash loses orders", f"ALTER SYSTEM RESET {name}, and restart.")
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if settings[name] == "off"
    ]
    if settings["archive_mode"] == "off":
        found.append(
            odd(
                "Postgres archives no WAL: after a loss there is what the last backup has",
                "Take backups often, or archive: docs/operating.md",
            )
        )
    return found


async def _room(connection: asyncpg.Connection) -> Finding:
    """Promise E9: services never take the last connections."""
    most = int(await connection.fetchval("SHOW max_connections"))
    used = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    )
    if used > most - KEPT_FREE:
        return ill(
            f"{used} of {most} connections are in use",
            "Have fewer processes or smaller pools, or put PgBouncer before it: docs/scale.md",
        )
    return well(f"{used} of {most} connections are in use")


async def _migrations(place: Place) -> list[Finding]:
    databases = Databases(
        place.url if place.roles else None,
        dict(place.roles) or dict.fromkeys(place.services, place.url),
    )
    try:
        pending = await migrate.pending(databases, place.services)
    except StartError as error:
        return [ill(str(error), "Use the newer version of the shop, or restore a backup.")]
    if pending:
        steps = ", ".join(str(step) for step in pending)
        return [ill(f"migrations are pending: {steps}", "shop migrate")]
    return [well(f"{', '.join(place.services)}: migrated")]


async def _outboxes(connection: asyncpg.Connection, place: Place) -> list[Finding]:
    found = []
    for service in place.services:
        table = f'"{service}".outbox'
        if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
            continue
        rows = await connection.fetch(
            f"""
            SELECT topic, count(*) AS waiting, max(last_error) AS error,
                   extract(epoch FROM clock_timestamp() - min(create_time))::int AS oldest
            FROM {table} GROUP BY topic
            """  # noqa: S608 - our own name
        )
        late = [row for row in rows if row["oldest"] > LONGEST_WAIT_SECONDS]
        found += [
            ill(
                f"{service} has {row['waiting']} times {row['topic']} to tell, "
                f"the oldest for {row['oldest']} s: {row['error'] or 'not tried yet'}",
                "Whom it tells is away or refuses, or no process of it runs: see its log.",
            )
            for row in late
        ]
        if not late:
            waiting = sum(row["waiting"] for row in rows)
            found.append(well(f"{service} has told all it has to ({waiting} on their way)"))
    return found


async def _role(service: str, url: str) -> Finding:
    """Promise E15: a service may use its schema, and no other."""
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        why = str(error) or type(error).__name__
        return ill(f"{service} cannot log in as {user_of(url)}: {why}", "shop migrate")
    try:
        schemas = await connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname = ANY($1::text[])"
            " AND has_schema_privilege(oid, 'USAGE')",
            list(migrate.migrated_services()),
        )
    finally:
        await connection.close()
    others = sorted({row[0] for row in schemas} - {service})
    if service not in {row[0] for row in schemas}:
        return ill(f"{user_of(url)} may not use the schema {service}", "shop migrate")
    if others:
        return odd(
            f"{user_of(url)} may use the schemas of {', '.join(others)}, too",
            f"Give {service} a role of its own: SHOP_{service.upper()}_DATABASE_URL.",
        )
    return well(f"{user_of(url)} may use the schema {service}, and no other")
