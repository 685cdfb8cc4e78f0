"""`shop doctor`: what is wrong is found, and it says what to do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from cli import doctor, examinations, migrate
from cli.database import Databases, databases_of, service_url
from cli.examinations import Finding, Health
from cli.topology import LOOPBACK, Address, free_port
from tests.kit.serving import serving
from tests.postgres_fixtures import in_database

TESTS_OWN = {"fsync is off", "full_page_writes is off", "synchronous_commit is off"}


def ill(findings: list[Finding]) -> list[Finding]:
    """What does not work, but for how the tests' Postgres is set up."""
    return [
        finding
        for finding in findings
        if finding.health is Health.ILL and finding.what.split(":")[0] not in TESTS_OWN
    ]


@pytest.fixture
def environment(databases: Databases) -> dict[str, str]:
    assert databases.owner is not None
    return {"SHOP_DATABASE_URL": databases.owner}


async def test_a_sound_shop_is_well(
    environment: dict[str, str], tmp_path: Path, empty_database: None
) -> None:
    findings = await doctor.examine(tmp_path, environment)
    assert ill(findings) == []
    text = "\n".join(finding.what for finding in findings)
    assert "is Postgres 18" in text
    assert "users, catalog, cart, order, payment: migrated" in text
    assert "shop_order may use the schema order, and no other" in text


async def test_a_database_that_forgets_is_no_place_for_orders(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The tests' own Postgres is one."""
    findings = await doctor.examine(tmp_path, environment)
    forgetful = [finding for finding in findings if "a crash loses orders" in finding.what]
    assert {finding.health for finding in forgetful} == {Health.ILL}
    assert any("ALTER SYSTEM RESET fsync" in finding.advice for finding in forgetful)


class TestDatabases:
    @pytest_asyncio.fixture
    async def empty(self, postgres_url: str, worker: str) -> AsyncIterator[str]:
        name = f"doctor_{worker}"
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await connection.execute(f"CREATE DATABASE {name}")
            yield in_database(postgres_url, name)
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await connection.close()

    async def test_migrations_that_are_pending(self, empty: str, tmp_path: Path) -> None:
        await migrate.migrate(databases_of(empty), ["users"])
        found = ill(await doctor.examine(tmp_path, {"SHOP_DATABASE_URL": empty}))
        (pending,) = [one for one in found if "pending" in one.what]
        assert "catalog 0001" in pending.what
        assert "users 0001" not in pending.what
        assert pending.advice == "shop migrate"
        without = [one for one in found if "may not use the schema cart" in one.what]
        assert [one.advice for one in without] == ["shop migrate"]

    async def test_a_schema_that_is_newer_than_the_shop(self, empty: str, tmp_path: Path) -> None:
        await migrate.migrate(databases_of(empty))
        connection = await asyncpg.connect(empty)
        await connection.execute("UPDATE cart.alembic_version SET version_num = '9999'")
        await connection.close()
        (newer,) = ill(await doctor.examine(tmp_path, {"SHOP_DATABASE_URL": empty}))
        assert "9999" in newer.what

    async def test_what_is_not_delivered(
        self,
        environment: dict[str, str],
        owner_connection: asyncpg.Connection,
        empty_database: None,
        tmp_path: Path,
    ) -> None:
        await owner_connection.execute(
            'INSERT INTO "order".outbox (id, topic, payload, create_time, last_error)'
            " VALUES (gen_random_uuid(), 'confirm', '', now() - interval '5 minutes', 'refused')"
        )
        (late,) = ill(await doctor.examine(tmp_path, environment))
        assert "order has 1 times confirm to tell" in late.what
        assert "refused" in late.what

    async def test_a_role_that_may_more_than_it_should(
        self, environment: dict[str, str], owner_connection: asyncpg.Connection, tmp_path: Path
    ) -> None:
        await owner_connection.execute('GRANT USAGE ON SCHEMA "order" TO shop_cart')
        try:
            findings = await doctor.examine(tmp_path, environment)
        finally:
            await owner_connection.execute('REVOKE USAGE ON SCHEMA "order" FROM shop_cart')
        (odd,) = [one for one in findings if "may use the schemas of order" in one.what]
        assert odd.health is Health.ODD

    async def test_a_password_that_is_wrong_and_a_postgres_that_is_not_there(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        wrong = service_url(environment["SHOP_DATABASE_URL"], "cart").replace(":", ":x", 2)
        wrong = wrong.replace("postgresql:x", "postgresql:", 1)
        nobody = f"postgresql://shop:secret@{LOOPBACK}:{free_port()}/shop"
        found = ill(await doctor.examine(tmp_path, environment | {"SHOP_CART_DATABASE_URL": wrong}))
        assert any("cart cannot log in as shop_cart" in one.what for one in found)
        found = ill(await doctor.examine(tmp_path, {"SHOP_DATABASE_URL": nobody}))
        assert "cannot be reached" in found[0].what
        assert "secret" not in "".join(one.what + one.advice for one in found)


class TestConfiguration:
    @pytest.fixture(autouse=True)
    def told(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        for name, value in {
            "SHOP_ENV": "production",
            "SHOP_LISTEN": "127.0.0.1:0",
            "SHOP_DATABASE_URL": "postgresql://a:b@localhost/shop",
            "SHOP_SERVICE_SECRET": "s" * 32,
            "SHOP_USERS_ADDRESS": "users:8001",
            "SHOP_ORDER_ADDRESS": "order:8004",
            "SHOP_STRIPE_SECRET_KEY": "sk_test_1",
            "SHOP_STRIPE_WEBHOOK_SECRET": "whsec_1",
            "SHOP_STRIPE_BASE_URL": "http://stripe:8006",
        }.items():
            monkeypatch.setenv(name, value)
        return monkeypatch

    @staticmethod
    def _look(service: str) -> list[Finding]:
        return list(examinations.configuration([service], os.environ))

    def test_what_a_service_misses_is_named(self, told: pytest.MonkeyPatch) -> None:
        told.delenv("SHOP_SERVICE_SECRET")
        (found,) = self._look("payment")
        assert found.health is Health.ILL
        assert "set SHOP_PAYMENT_SERVICE_SECRET" in found.advice

    def test_what_is_odd_in_production_is_said(self) -> None:
        said = {finding.what: finding.health for finding in self._look("payment")}
        assert said["payment: a test key in production"] is Health.ODD
        assert said["payment: no money moves"] is Health.ILL
        assert said["payment: SHOP_PUBLIC_URL is http://127.0.0.1:8000"] is Health.ODD

    def test_a_process_that_is_no_service_is_not_asked(self, told: pytest.MonkeyPatch) -> None:
        told.delenv("SHOP_LISTEN")
        assert self._look("payment") == []


class TestSurroundings:
    def test_keys_that_everybody_can_read_and_none(self, tmp_path: Path) -> None:
        (none,) = examinations.keys(tmp_path)
        assert none.health is Health.ILL
        assert "openssl genpkey" in none.advice
        (tmp_path / "1.pem").touch()
        (tmp_path / "1.pem").chmod(0o644)
        _, open_to_all = examinations.keys(tmp_path)
        assert f"chmod 600 {tmp_path / '1.pem'}" in open_to_all.advice

    def test_a_disk_that_is_nearly_full(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert next(examinations.disk(tmp_path / "not" / "yet")).health in set(Health)
        monkeypatch.setattr(examinations, "LITTLE_DISK", 10**18)
        assert next(examinations.disk(tmp_path)).health is Health.ILL

    async def test_servers_that_answer_and_that_do_not(self) -> None:
        async with serving() as served:
            there = Address(LOOPBACK, served.server.port)
            nobody = Address(LOOPBACK, free_port())
            findings = await examinations.servers({"users": there, "cart": nobody})
        assert findings[1].health is Health.ILL
        assert "cart" in findings[1].what
        assert (await examinations.the_edge(nobody)).health is Health.ILL

    async def test_a_mail_server_that_is_away(self) -> None:
        url = f"smtp://user:secret@{LOOPBACK}:{free_port()}"
        (found,) = await examinations.others({"SHOP_SMTP_URL": url})
        assert found.health is Health.ILL
        assert "secret" not in found.what + found.advice

    def test_where_services_are_said_to_be(self) -> None:
        told = {"SHOP_USERS_ADDRESS": "10.0.0.1:1,10.0.0.2:1", "SHOP_CART_ADDRESS": "cart:8003"}
        assert examinations.addresses_from(told) == {
            "users": Address("10.0.0.1", 1),
            "users 2": Address("10.0.0.2", 1),
            "cart": Address("cart", 8003),
        }
