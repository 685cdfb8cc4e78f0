"""The users service as it runs, on a free port, with a mailbox folder; empty before each test."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import grpc
import pytest
import pytest_asyncio
from asyncpg.connection import LoggedQuery
from cryptography.hazmat.primitives.asymmetric import ec

from services.kit import call
from services.kit.db import Database
from services.users import __main__ as wiring, passwords
from services.users.__main__ import Settings, build
from services.users.tables import metadata
from tests import callers
from tests.running import ASYNCPGS_OWN
from tests.users import signing_keys
from tests.users.people import People, Served


@pytest.fixture(scope="session")
def signing_key() -> ec.EllipticCurvePrivateKey:
    """The key that the service signs with."""
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="session")
def keys_folder(
    signing_key: ec.EllipticCurvePrivateKey, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with one signing key."""
    folder = tmp_path_factory.mktemp("keys")
    signing_keys.write(folder / "1.pem", signing_key)
    return folder


@pytest.fixture(scope="session")
def settings(
    database_url: Callable[[str], str], keys_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """Settings of the service under test: everything as in production but the cost of a hash."""
    return Settings.load(
        database_url=database_url("users"),
        listen="127.0.0.1:0",
        service_secret=callers.SECRET,
        signing_keys=keys_folder,
        mailbox=tmp_path_factory.mktemp("mailbox"),
        argon2_iterations=1,
        argon2_memory_kib=64,
        drain_seconds=0.5,
    )


@pytest_asyncio.fixture(scope="session")
async def served(settings: Settings) -> AsyncIterator[Served]:
    """The service, for the whole run."""
    async with serving(settings) as service:
        yield service


@pytest_asyncio.fixture
async def full_cost(settings: Settings) -> AsyncIterator[Served]:
    """Another one, that hashes passwords as dearly as in production."""
    dear = replace(
        settings,
        argon2_iterations=passwords.ITERATIONS,
        argon2_memory_kib=passwords.MEMORY_KIB,
    )
    async with serving(dear) as service:
        yield service


@pytest_asyncio.fixture
async def rotating(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Served, Path]]:
    """Another one that rotates its keys in parts of a second, and the folder with its first key."""
    monkeypatch.setattr(wiring, "KEYS_SECONDS", 0.02)
    signing_keys.write(tmp_path / "1.pem")
    changed = replace(settings, signing_keys=tmp_path, signing_delay_seconds=0.2)
    async with serving(changed) as service:
        yield service, tmp_path


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Served]:
    """Serve, until the block ends."""
    statements: Counter[str] = Counter()

    def count(query: LoggedQuery) -> None:
        current = call.current_or_none()  # background work is nobody's call
        if current is not None and not any(text in query.query for text in DRIVER):
            statements[current.method] += 1

    database = await Database.open(settings.database_url, metadata, name="tests", on_query=count)
    server = build(settings, database)
    await server.start()
    assert settings.mailbox is not None
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Served(channel, database, settings.mailbox, statements)
    await server.stop()
    await database.close()


# The driver's own: transactions, and what it asks.
DRIVER = ("BEGIN;", "COMMIT;", "ROLLBACK;", *ASYNCPGS_OWN)


@pytest.fixture
def people(served: Served, owner_connection: asyncpg.Connection, empty_database: None) -> People:
    """Makes users, of whom there are none when the test begins."""
    return People(served, owner_connection)
