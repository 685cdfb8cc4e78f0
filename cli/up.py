"""`shop up`: Postgres, migrations, services and Envoy, kept running until told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cli import edge, schemas
from cli.data_folder import Admin, DataFolder, write_secret
from cli.database import Databases, databases_from, databases_of, ensure_database, without_password
from cli.output import Output
from cli.postgres import Cluster
from cli.services import (
    edge_options,
    edge_program,
    public_url,
    service_program,
    stripe_program,
    uses_stripe,
)
from cli.supervisor import Supervisor
from cli.topology import SERVICES, allocate, service_of

POSTGRES, ENVOY, STRIPE = "postgres", "envoy", "stripe"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    port: int
    data: Path
    demo: bool | None = None
    """None: where everything is new."""
    ready_file: Path | None = None
    replicas: int = 1
    """Processes of each service."""


async def up(options: Options, output: Output) -> None:
    """Run the shop until SIGINT, SIGTERM or SIGHUP. Raises StartError when it cannot start."""
    folder = DataFolder(options.data)
    with folder.lock():
        forget_ready(options)
        shop = Shop(folder, options, output)
        with stop_signals(shop) as stop:
            try:
                await unless(stop, shop.start())
                await stop.wait()
            finally:
                forget_ready(options)
                await shop.stop()


class Shop:
    """The running parts, and what they were told."""

    def __init__(self, folder: DataFolder, options: Options, output: Output) -> None:
        self._folder = folder
        self._options = options
        self._output = output
        self._supervisor = Supervisor(output)
        self.topology, remarks = allocate(options.port, options.replicas)
        for remark in remarks:
            output.say("shop", remark)

    async def start(self) -> None:
        """Start everything and say so, when everything answers. Raises StartError."""
        folder, topology, supervisor = self._folder, self.topology, self._supervisor
        edge_options(os.environ)  # what it cannot understand is better said at once
        supervisor.expect_forks()
        folder.prepare()
        databases = databases_from(os.environ)
        wants_demo = self._wants_demo(embedded=databases is None)
        if not uses_stripe(os.environ):
            write_secret(folder.stripe_address, f"{topology.stripe}\n")
            supervisor.start(stripe_program(topology, folder, os.environ))
        if databases is None:
            databases = await self._start_postgres()
        await self._migrate(databases)
        processes = tuple(topology.services)
        for name in processes:
            told = databases.told(service_of(name))
            supervisor.start(service_program(name, topology, folder, told, os.environ))
        if wants_demo:
            from cli import demo

            await demo.load(folder, databases)
            folder.demo_wanted.unlink(missing_ok=True)
        the_edge = edge_program(topology, folder, os.environ)  # written while they start
        await supervisor.wait_ready(*processes)
        # Not earlier: it would meet services that are not there, count them as failing, and say so.
        supervisor.start(the_edge)
        await supervisor.wait_ready(ENVOY, *(() if uses_stripe(os.environ) else (STRIPE,)))
        self._announce(databases, folder.read_admin())

    async def stop(self) -> None:
        """No new calls, those in flight are answered, then all ends; Postgres is last."""
        self._output.say("shop", "stopping")
        if self._supervisor.pid(ENVOY) is not None:
            await asyncio.to_thread(edge.drain, self.topology.admin)
        await self._supervisor.stop(*self.topology.services)
        await self._supervisor.stop(ENVOY, STRIPE)
        await self._supervisor.stop(POSTGRES)
        await self._supervisor.end()

    def kill(self) -> None:
        self._supervisor.kill_all()

    def _wants_demo(self, *, embedded: bool) -> bool:
        """By default where everything is new; a database that the user named may be anything."""
        folder = self._folder
        if self._options.demo is not None:
            return self._options.demo
        if embedded and not folder.postgres.exists():
            folder.demo_wanted.touch()
        return folder.demo_wanted.exists()

    async def _start_postgres(self) -> Databases:
        port = self.topology.postgres.port
        cluster = Cluster(
            self._folder.postgres,
            self._folder.postgres_password,
            port,
            replicas=self._options.replicas,
        )
        cluster.create()
        self._supervisor.start(cluster.program())
        await self._supervisor.wait_ready(POSTGRES)
        await ensure_database(cluster.url("postgres"), "shop")
        return databases_of(cluster.url("shop"))

    async def _migrate(self, databases: Databases) -> None:
        # Behind a pooler, roles need their limits too: `migrate` gives them.
        if not databases.poolers and await schemas.is_current(databases, SERVICES):
            return
        from cli import migrate

        await migrate.migrate(
            databases, SERVICES, lambda step: self._output.say("migrate", str(step))
        )

    def _announce(self, databases: Databases, admin: Admin | None) -> None:
        topology = self.topology
        url = public_url(topology, os.environ)
        rows = [("REST and gRPC", url)]
        rows += [(f"{name}, gRPC", str(address)) for name, address in topology.services.items()]
        rows.append(("Envoy's admin page", f"http://{topology.admin}"))
        if databases.owner is not None:
            rows.append(("database", without_password(databases.owner)))
        rows.append(("mail", str(self._folder.mailbox)))
        if uses_stripe(os.environ):
            rows.append(("payments", "Stripe, as STRIPE_SECRET_KEY says"))
        else:
            rows.append(("payments", f"a Stripe sandbox, http://{topology.stripe}: no money moves"))
        if admin is not None:
            rows.append(("administrator", f"{admin.email}  password {admin.password}"))
        table = Table.grid(padding=(0, 2))
        for name, value in rows:
            table.add_row(Text(name, style="dim"), Text(value))
        self._output.print(Rule(), Text("The shop is open.", style="bold green"), table)
        self._output.print(Text(f"\n  curl '{url}/api/products/?page_size=3'\n"), Rule())
        where = {
            "edge": str(topology.edge),
            "services": {name: str(at) for name, at in topology.services.items()},
            "metrics": {name: str(at) for name, at in topology.metrics.items()},
        }
        write_secret(self._folder.running, json.dumps(where, indent=2) + "\n")
        if self._options.ready_file is not None:
            ready = {
                "edge": url,
                "services": {name: str(where) for name, where in topology.services.items()},
                "admin": None if admin is None else asdict(admin),
                "database_url": databases.owner,
                "mailbox": str(self._folder.mailbox),
                "stripe": "" if uses_stripe(os.environ) else f"http://{topology.stripe}",
            }
            write_secret(self._options.ready_file.absolute(), json.dumps(ready, indent=2) + "\n")


def forget_ready(options: Options) -> None:
    """Nobody is to read what was true of an earlier run."""
    DataFolder(options.data).running.unlink(missing_ok=True)
    if options.ready_file is not None:
        options.ready_file.unlink(missing_ok=True)


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, or drop it when the user wants to stop first."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


@contextmanager
def stop_signals(shop: Shop) -> Iterator[asyncio.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set. The second one stops at once, not kindly."""
    stop = asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            shop.kill()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, asked)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
