"""What `shop doctor` looks at besides databases: programs, settings, keys, disk, ports, servers.

Each examination answers findings; what is not well comes with what to do about it.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from cli import edge
from cli.data_folder import DataFolder
from cli.database import setting
from cli.postgres_binaries import find_tool
from cli.probes import http_status, is_serving
from cli.programs import StartError
from cli.topology import ALL_SERVICES, DEFAULT_PORT, Address, is_free
from services.kit.settings import ServiceSettings, SettingsError, host_and_port

OLDEST_PYTHON = (3, 11)
CONNECT_SECONDS = 3.0
GIGABYTE = 10**9
ENOUGH_DISK, LITTLE_DISK = 5 * GIGABYTE, GIGABYTE


class Health(Enum):
    """How it is."""

    WELL = "ok"
    ODD = "warn"
    ILL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it."""

    health: Health
    what: str
    advice: str = ""


def well(what: str) -> Finding:
    """As it should be."""
    return Finding(Health.WELL, what)


def odd(what: str, advice: str) -> Finding:
    """Works, and may not be what is wanted."""
    return Finding(Health.ODD, what, advice)


def ill(what: str, advice: str) -> Finding:
    """Does not work."""
    return Finding(Health.ILL, what, advice)


def programs() -> Iterator[Finding]:
    """Python, Envoy, and Postgres's own tools."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield ill(f"Python {version}", "The shop needs 3.11 or newer.")
    else:
        yield well(f"Python {version}")
    try:
        told = subprocess.run(
            [str(edge.envoy_binary()), "--version"], capture_output=True, text=True, check=False
        ).stdout
        found = re.search(r"/(\d+\.\d+\.\d+)", told)
        yield well(f"Envoy {found[1] if found else 'of an unknown version'}")
    except (StartError, OSError) as error:
        yield odd("no Envoy here", f"{error} Containers bring their own.")
    try:
        yield well(f"pg_dump, for backups, in {find_tool('pg_dump', at_least=0).parent}")
    except StartError as error:
        yield odd("no pg_dump here, which `shop backup` needs", str(error))


def configuration(services: Iterable[str], environment: Mapping[str, str]) -> Iterator[Finding]:
    """What this process' environment makes of the services that it is meant for."""
    for service in services:
        if not {"SHOP_LISTEN", f"SHOP_{service.upper()}_LISTEN"} & environment.keys():
            continue
        module = importlib.import_module(f"services.{service}.__main__")
        try:
            settings: ServiceSettings = module.Settings.load()
        except SettingsError as error:
            yield ill(f"{service} would not start", str(error))
            continue
        yield well(f"{service} has all it needs to be told ({settings.env})")
        yield from _oddities(settings)


def _oddities(settings: ServiceSettings) -> Iterator[Finding]:
    service, told = settings.service, asdict(settings)
    key = told.get("stripe_secret_key", "")
    if settings.env == "production":
        if not settings.public_url.startswith("https://"):
            yield odd(
                f"{service}: SHOP_PUBLIC_URL is {settings.public_url}",
                "Mails and 3-D Secure send customers there: set the https:// address.",
            )
        if "localhost" in str(told.get("mail_from", "")):
            yield odd(f"{service}: mails come from localhost", "Set SHOP_MAIL_FROM.")
        if "_test_" in key:
            yield odd("payment: a test key in production", "Set SHOP_STRIPE_SECRET_KEY=sk_live_…")
        if told.get("stripe_base_url"):
            yield ill("payment: no money moves", "Unset SHOP_STRIPE_BASE_URL to reach Stripe.")
    elif "_live_" in key:
        yield odd(
            "payment: a live key outside production", "Set SHOP_ENV=production, or test keys."
        )


def keys(folder: Path) -> Iterator[Finding]:
    """The keys that sign access tokens."""
    found = sorted(folder.glob("*.pem"))
    if not found:
        yield ill(
            f"no signing key in {folder}",
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 "
            f"-out {folder / '1.pem'}",
        )
        return
    yield well(f"{len(found)} signing key{'s' if len(found) > 1 else ''} in {folder}")
    for path in found:
        if path.stat().st_mode & 0o007:
            yield ill(
                f"everybody on this machine can read {path}",
                f"chmod 600 {path}, and rotate it: docs/operating.md",
            )


def disk(folder: Path) -> Iterator[Finding]:
    """The space that is left where the data are."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    what = f"{free / GIGABYTE:.1f} GB are left on the disk of {folder}"
    if free < LITTLE_DISK:
        yield ill(what, "Postgres stops when there is none: make room.")
    elif free < ENOUGH_DISK:
        yield odd(what, "Make room before there is none.")
    else:
        yield well(what)


def ports() -> Iterator[Finding]:
    """Where `shop up` would listen."""
    if not is_free(DEFAULT_PORT):
        yield odd(
            f"port {DEFAULT_PORT} is taken by another program",
            f"shop up --port {DEFAULT_PORT + 100}",
        )
    taken = [
        str(DEFAULT_PORT + offset)
        for offset in (*range(1, 7), 9, *range(11, 16), 20)
        if not is_free(DEFAULT_PORT + offset)
    ]
    if taken:
        yield odd(
            f"other programs listen on {', '.join(taken)}",
            "`shop up` takes others instead of these.",
        )
    elif is_free(DEFAULT_PORT):
        yield well(f"the ports from {DEFAULT_PORT} on are free")


async def servers(addresses: Mapping[str, Address]) -> list[Finding]:
    """Whether services answer, and say that they are ready."""
    answers = await asyncio.gather(*(is_serving(address) for address in addresses.values()))
    return [
        well(f"{name} at {address} is ready")
        if serves
        else ill(
            f"{name} at {address} does not say that it is ready",
            "Is it running? If it is, its log says what it waits for, mostly its database.",
        )
        for (name, address), serves in zip(addresses.items(), answers, strict=True)
    ]


async def the_edge(address: Address) -> Finding:
    """Whether Envoy answers, and has the keys of the users service."""
    status = await http_status(address, "/.well-known/jwks.json")
    if status == 200:
        return well(f"the edge at {address} answers")
    if status is None:
        return ill(f"the edge at {address} does not answer", "Start Envoy, or look at its log.")
    return ill(f"the edge at {address} answers {status}", "It does not reach the users service.")


async def others(environment: Mapping[str, str]) -> list[Finding]:
    """Mail server and Stripe: whether they can be connected to."""
    found = []
    for what, name, port in (
        ("the mail server", "SHOP_SMTP_URL", 587),
        ("Stripe", "SHOP_STRIPE_BASE_URL", 443),
    ):
        parts = urlsplit(setting(environment, name) or "")
        if not parts.hostname:
            continue
        where = Address(parts.hostname, parts.port or port)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(where.host, where.port)
            writer.close()
            found.append(well(f"{what} at {where} can be reached"))
        except (OSError, TimeoutError) as error:
            why = str(error) or "no answer"
            found.append(ill(f"{what} at {where} cannot be reached: {why}", f"Check {name}."))
    return found


def addresses_from(environment: Mapping[str, str]) -> dict[str, Address]:
    """Where services tell each other that they are. Raises SettingsError for what is none."""
    found = {}
    for name in ALL_SERVICES:
        for number, one in enumerate(
            environment.get(f"SHOP_{name.upper()}_ADDRESS", "").split(",")
        ):
            if one:
                found[name if not number else f"{name} {number + 1}"] = Address(*host_and_port(one))
    return found


@dataclass(frozen=True, slots=True)
class Running:
    """Where the parts of a running `shop up` are."""

    edge: Address
    services: Mapping[str, Address]
    metrics: Mapping[str, Address]


def running(folder: DataFolder) -> Running | None:
    """What a `shop up` that uses this folder has written down; None when there is none."""
    try:
        told = json.loads(folder.running.read_text())
    except (OSError, ValueError):
        return None
    places = {
        part: {name: Address(*host_and_port(where)) for name, where in told[part].items()}
        for part in ("services", "metrics")
    }
    return Running(Address(*host_and_port(told["edge"])), places["services"], places["metrics"])
