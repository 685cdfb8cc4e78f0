"""Who may do what in Postgres: a schema and a login role per service, and nothing across.

The owner (of SHOP_DATABASE_URL, or of the embedded Postgres) makes schemas, roles and tables; a
service's role may use its own schema and read and write its tables. A service whose database is
elsewhere (SHOP_<SERVICE>_DATABASE_URL) owns its schema there.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import asyncpg

from cli.programs import StartError
from cli.topology import ALL_SERVICES
from services.kit.sessions import SESSION

# Who reads from a replica where there is one.
REPLICATED = ("catalog",)
_PORT = re.compile(r":\d+$")
EXTENSIONS = ("pg_trgm", "unaccent", "btree_gin")


@dataclass(frozen=True, slots=True)
class Place:
    """A database to be migrated, as the user of `url`, for some services.

    `roles` has the URL of each service's role; it is empty where `url` is the service's own.
    """

    url: str
    services: tuple[str, ...]
    roles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Databases:
    """Every service's URL, and the owner's where there is one.

    They are Postgres's own; `poolers` and `replicas` has what stands before it, and beside it.
    """

    owner: str | None
    services: Mapping[str, str]
    poolers: Mapping[str, str] = field(default_factory=dict)
    replicas: Mapping[str, str] = field(default_factory=dict)

    def told(self, service: str) -> dict[str, str]:
        """What a process of a service is told, by the ends of the variables' names."""
        told = {"DATABASE_URL": self.services[service]}
        if service in self.poolers:
            told = {
                "DATABASE_URL": self.poolers[service],
                "DIRECT_DATABASE_URL": self.services[service],
            }
        if service in self.replicas:
            told["REPLICA_DATABASE_URL"] = self.replicas[service]
        return told

    def places(self, only: Iterable[str] = ALL_SERVICES) -> list[Place]:
        """The databases in which the schemas of these services are, each once."""
        wanted = tuple(name for name in ALL_SERVICES if name in set(only) & self.services.keys())
        owned = tuple(name for name in wanted if self._is_owned(name))
        found = []
        if self.owner is not None and owned:
            found.append(Place(self.owner, owned, {name: self.services[name] for name in owned}))
        found += [Place(self.services[name], (name,), {}) for name in wanted if name not in owned]
        return found

    def _is_owned(self, service: str) -> bool:
        return self.owner is not None and _database_of(self.owner) == _database_of(
            self.services[service]
        )


def databases_from(environment: Mapping[str, str]) -> Databases | None:
    """What the environment says; None where it names no database."""
    owner, services = _named(environment, "DATABASE_URL")
    direct_owner, direct = _named(environment, "DIRECT_DATABASE_URL")
    if not services:
        return None
    return Databases(
        direct_owner or owner,
        services | direct,
        poolers={name: url for name, url in services.items() if name in direct},
        replicas={
            name: url
            for name, url in _named(environment, "REPLICA_DATABASE_URL")[1].items()
            if name in REPLICATED
        },
    )


def _named(environment: Mapping[str, str], what: str) -> tuple[str | None, dict[str, str]]:
    """The owner's URL of a kind, and those of the services' roles."""
    owner = setting(environment, f"SHOP_{what}")
    services = {}
    for name in ALL_SERVICES:
        url = setting(environment, f"SHOP_{name.upper()}_{what}")
        if url is not None:
            services[name] = url
        elif owner is not None:
            services[name] = service_url(owner, name)
    return owner, services


def databases_of(owner: str) -> Databases:
    """All services in one database."""
    return Databases(owner, {name: service_url(owner, name) for name in ALL_SERVICES})


def service_url(owner: str, service: str) -> str:
    """The owner's URL with the service's role, whose password follows from the owner's."""
    parts = urlsplit(owner)
    if not parts.password:
        raise StartError(
            "SHOP_DATABASE_URL holds no password, from which the services' passwords follow. "
            f"Add it, or set SHOP_{service.upper()}_DATABASE_URL too."
        )
    role = f"shop_{service}"
    password = hmac.new(unquote(parts.password).encode(), role.encode(), hashlib.sha256)
    return with_user(owner, role, password.hexdigest()[:32])


def with_user(url: str, user: str, password: str) -> str:
    """The same database as somebody else."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(
        netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"
    ).geturl()


def at(url: str, place: str) -> str:
    """The same database of the same user elsewhere: at host:port."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@{place}").geturl()


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}@{host}").geturl()


def user_of(url: str) -> str:
    """Who logs in by this URL."""
    return unquote(urlsplit(url).username or "")


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


async def connect(url: str, **settings: str) -> asyncpg.Connection:
    """A connection with these server settings. Raises StartError with a text for people."""
    try:
        return await asyncpg.connect(url, timeout=10, server_settings=settings)
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        ValueError,
    ) as error:
        reason = str(error) or type(error).__name__
        raise StartError(f"Cannot connect to {without_password(url)}: {reason}") from None


async def ensure_database(maintenance_url: str, name: str) -> None:
    """Create the database unless it exists."""
    connection = await connect(maintenance_url)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await connection.execute(f"CREATE DATABASE {quoted(name)}")
    finally:
        await connection.close()


async def prepare(connection: asyncpg.Connection, place: Place) -> None:
    """Make the missing extensions, schemas and roles. Raises StartError where that is forbidden."""
    try:
        for extension in EXTENSIONS:
            await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA public")
        for service in place.services:
            # IF NOT EXISTS would ask for the right to create also where nothing is to be created.
            if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", service):
                await connection.execute(f"CREATE SCHEMA {quoted(service)}")
        if place.roles:
            await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            database = quoted(await connection.fetchval("SELECT current_database()"))
            await connection.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        for service, url in place.roles.items():
            await _prepare_role(connection, service, url)
    except asyncpg.PostgresError as error:
        raise StartError(
            f"The database at {without_password(place.url)} cannot be prepared: {error}"
        ) from None


async def _prepare_role(connection: asyncpg.Connection, service: str, url: str) -> None:
    name, password = user_of(url), unquote(urlsplit(url).password or "")
    role, schema = quoted(name), quoted(service)
    exists = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name)
    if not exists or not await _can_log_in(url):
        literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
        verb = "ALTER" if exists else "CREATE"
        await connection.execute(f"{verb} ROLE {role} LOGIN PASSWORD {literal}")
    await connection.execute(f"""
        GRANT USAGE ON SCHEMA {schema} TO {role};
        ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
            GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
        ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role};
    """)
    await _limit_sessions(connection, name)


async def _limit_sessions(connection: asyncpg.Connection, name: str) -> None:
    """Give a role what services ask for when they connect: a pooler does not pass it on.

    Without the right to, nothing changes: `shop doctor` looks whether a pooler needs it.
    """
    limits = {f"{setting}={value}" for setting, value in SESSION.items()}
    known = await connection.fetchval(
        "SELECT setconfig FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid"
        " WHERE datname = current_database() AND setrole = $1::text::regrole",
        quoted(name),
    )
    if limits <= set(known or ()):
        return
    database = quoted(await connection.fetchval("SELECT current_database()"))
    with suppress(asyncpg.InsufficientPrivilegeError):
        for setting, value in SESSION.items():
            await connection.execute(
                f"ALTER ROLE {quoted(name)} IN DATABASE {database} SET {setting} = '{value}'"
            )


async def _can_log_in(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


def setting(environment: Mapping[str, str], name: str) -> str | None:
    """A setting, or what the file holds that `<name>_FILE` names."""
    if name in environment:
        return environment[name]
    if f"{name}_FILE" in environment:
        try:
            return Path(environment[f"{name}_FILE"]).read_text().strip()
        except OSError as error:
            raise StartError(f"{name}_FILE: {error.filename}: {error.strerror}") from None
    return None


def _database_of(url: str) -> tuple[list[str], str]:
    """Its hosts, of which there may be several, and its name."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return [host if _PORT.search(host) else f"{host}:5432" for host in hosts], parts.path
