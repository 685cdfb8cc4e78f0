"""`shop reconcile`: brings payments in line with Stripe once, and says what it found.

It asks the Stripe that the shop uses: the real one by the environment's key, else the data folder's
sandbox, which may be running under `shop up`; otherwise it runs for as long as it is needed here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from cli.commands import open_databases
from cli.data_folder import DataFolder
from cli.database import connect, databases_from
from cli.programs import StartError, popen_arguments
from cli.services import SANDBOX_KEY, stripe_program, stripe_variables, uses_stripe
from cli.topology import Address, allocate
from services.kit import logs
from services.kit.settings import SettingsError
from services.payment.__main__ import Settings, reconcile as reconcile_payments
from services.payment.report import Report

START_SECONDS = 20.0
# It serves nobody, and calls no other service.
NOWHERE = "127.0.0.1:0"


async def reconcile(data: Path) -> bool:
    """Reconcile once and print the report; whether all is clear."""
    folder = DataFolder(data)
    if databases_from(os.environ) is None and not folder.postgres.exists():
        raise StartError(f"{data} holds no shop: name its folder with --data.")
    logs.configure("payment", form="pretty", level="warning")
    async with open_databases(data) as databases, stripe(folder) as stripe_settings:
        await (await connect(databases.services["payment"])).close()  # or it says why not
        given = {
            "database_url": databases.services["payment"],
            "listen": NOWHERE,
            "users_address": NOWHERE,
            "order_address": NOWHERE,
            **stripe_settings,
            **_service_secret(folder),
        }
        began = time.perf_counter()
        try:
            report = await reconcile_payments(Settings.load(**given))
        except SettingsError as error:
            raise StartError(str(error)) from None
        except asyncpg.UndefinedTableError:
            raise StartError("The database is not up to date: run `shop migrate`.") from None
    seconds = time.perf_counter() - began
    return show(report, seconds, Console(highlight=False, soft_wrap=True))


def show(report: Report, seconds: float, console: Console) -> bool:
    """Print what was found; whether all is clear."""
    rows = [
        (report.walked, "PaymentIntents compared with the payments here"),
        (report.adopted, "charges found that no payment stood for"),
        (report.heard, "events of refunds and disputes that no webhook had told"),
        (report.looked_at, "open payments looked at"),
        (report.settled, "of them changed their status"),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for number, text in rows:
        table.add_row(f"[bold]{number}[/]" if number else "[dim]0[/]", text)
    console.print(table)
    for status, number in sorted(report.open.items()):
        console.print(f"[yellow]open[/]  {number} {status}: {MEANINGS[status]}")
    if report.owed:
        console.print(f"[red]open[/]  {report.owed} with money that is still to be given back")
    if report.unanswered:
        console.print(f"[red]open[/]  {report.unanswered} of which Stripe said nothing")
    if report.cut_short:
        console.print("[red]Stripe did not answer[/]: what happened there was not seen to its end.")
    end = "All is settled." if report.is_clear and not report.open else "Nothing is wrong."
    console.print(f"{end if report.is_clear else 'Not all is settled.'} ({seconds:.1f} s)")
    return report.is_clear


MEANINGS = {
    "PROCESSING": "Stripe is at work",
    "REQUIRES_ACTION": "waits for its customer's 3-D Secure step",
    "UNKNOWN": "Stripe has not said yet what became of it; run this again",
    "REVIEW": "Stripe's answer does not fit the order; look at it in Stripe's dashboard",
}


@asynccontextmanager
async def stripe(folder: DataFolder) -> AsyncIterator[dict[str, Any]]:
    """Settings by which payments reach the shop's Stripe. Raises StartError without one."""
    if uses_stripe(os.environ):
        yield stripe_variables(os.environ)
        return
    if not folder.stripe.exists():
        raise StartError(
            f"{folder.path} has no Stripe sandbox, and no Stripe key is set. "
            "Set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET, or name the folder with --data."
        )
    secret = folder.stripe_webhook_secret.read_text().strip()
    settings = {"stripe_secret_key": SANDBOX_KEY, "stripe_webhook_secret": secret}
    running = folder.read_stripe_address()
    if running is not None and await _is_sandbox_of(running, folder):
        yield settings | {"stripe_base_url": f"http://{running}"}
        return
    async with _sandbox(folder) as started:
        yield settings | {"stripe_base_url": f"http://{started}"}


async def _is_sandbox_of(address: str, folder: DataFolder) -> bool:
    """Whether the sandbox that answers there keeps its state in this folder."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            told = (await client.get(f"http://{address}/_sandbox/health")).json()
        return bool(told["data"] == str(folder.stripe.resolve()))
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


@asynccontextmanager
async def _sandbox(folder: DataFolder) -> AsyncIterator[Address]:
    """The data folder's sandbox, for the time of a `with`. Raises StartError."""
    topology, _ = allocate(0)
    program = stripe_program(topology, folder, os.environ)
    log = folder.path / "stripe.log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is started at once
            program.command, stdout=output, stderr=output, **popen_arguments(program)
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not await program.ready(process.pid):
            if process.poll() is not None or time.monotonic() > until:
                raise StartError(f"The Stripe sandbox does not start:\n{log.read_text().rstrip()}")
            await asyncio.sleep(0.05)
        yield topology.stripe
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, START_SECONDS)


def _service_secret(folder: DataFolder) -> dict[str, str]:
    """The data folder's, where the environment names none."""
    names = ("SHOP_SERVICE_SECRET", "SHOP_PAYMENT_SERVICE_SECRET")
    if any(f"{name}{end}" in os.environ for name in names for end in ("", "_FILE")):
        return {}
    if not folder.service_secret.exists():
        return {}
    return {"service_secret": folder.service_secret.read_text().strip()}
