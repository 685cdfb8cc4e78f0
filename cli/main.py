"""The `shop` command."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from cli.programs import StartError
from cli.topology import ALL_SERVICES, DEFAULT_PORT

app = typer.Typer(
    name="shop",
    help="Runs and looks after the shop on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Result = TypeVar("Result")
errors = Console(stderr=True, highlight=False, soft_wrap=True)

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", help="The folder that keeps everything.", resolve_path=True, show_default=".shop"
    ),
]
DEFAULT_DATA = Path(".shop")


@app.command("up")
def up_command(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The edge's port; 0: free ports everywhere.")
    ] = DEFAULT_PORT,
    data: DataOption = DEFAULT_DATA,
    demo: Annotated[
        bool | None,
        typer.Option(
            "--demo/--no-demo",
            help="Make an administrator and some products.",
            show_default="when the data folder is new",
        ),
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, max=9, help="Processes of each service, which share its calls.")
    ] = 1,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            resolve_path=True,
            help="Write addresses and credentials here, as JSON, once all answers.",
        ),
    ] = None,
) -> None:
    """Start Postgres, the services and Envoy, and keep them running. Ctrl-C ends all."""
    from cli import up
    from cli.output import Output

    run(up.up(up.Options(port, data, demo, ready_file, replicas), Output()))


@app.command()
def migrate(
    service: Annotated[
        list[str] | None, typer.Option(help="Only this service; may be given several times.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail when something is pending.")
    ] = False,
    write: Annotated[
        str, typer.Option(metavar="TITLE", help="Write a new migration for --service instead.")
    ] = "",
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Bring the database up to date, or tell what is missing."""
    from cli import commands

    only = tuple(service or ALL_SERVICES)
    if unknown := set(only) - set(ALL_SERVICES):
        raise typer.BadParameter(f"There is no service {', '.join(sorted(unknown))}.")
    if write:
        run(commands.write_migration(data, only, write))
    elif not check:
        run(commands.migrate(data, only))
    elif run(commands.check_migrations(data, only)):
        raise typer.Exit(1)


@app.command()
def seed(
    products: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=10_000_000,
            help="How many to add.",
            show_default="1000 when nothing else is asked for",
        ),
    ] = None,
    users: Annotated[
        int,
        typer.Option(min=0, max=10_000_000, help="Customers, whose password nobody knows."),
    ] = 0,
    carts: Annotated[int, typer.Option(min=0, max=10_000_000, help="Filled carts.")] = 0,
    orders: Annotated[
        int, typer.Option(min=0, max=10_000_000, help="Orders of the newest customers.")
    ] = 0,
    chosen_seed: Annotated[
        str,
        typer.Option("--seed", help="a-z and 0-9: the same once more, in another shop. [random]"),
    ] = "",
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Fill the shop with made-up products, customers, carts and orders."""
    from cli import commands

    if chosen_seed and not re.fullmatch("[a-z0-9]{1,12}", chosen_seed):
        raise typer.BadParameter("A seed is 1 to 12 lower-case letters and digits.")
    if products is None:
        products = 0 if users or carts or orders else 1000
    run(commands.seed(data, commands.Wanted(products, users, carts, orders), chosen_seed))


@app.command()
def create_admin(
    email: Annotated[str, typer.Argument(help="The administrator's e-mail address.")],
    password: Annotated[
        str | None,
        typer.Option(envvar="SHOP_ADMIN_PASSWORD", help="Asked for when it is not given."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Make somebody an administrator, who may then make others."""
    from cli import commands

    run(commands.create_admin(data, email, password))


@app.command()
def token(
    email: Annotated[str, typer.Argument(help="Whose token.")], data: DataOption = DEFAULT_DATA
) -> None:
    """Print an access token of a user, good for ten minutes. For development only."""
    from cli import commands

    run(commands.token(data, email))


@app.command()
def verify(data: DataOption = DEFAULT_DATA) -> None:
    """Look whether the data hold what they should; status 1, with the rows, where they do not."""
    from cli import commands

    if not run(commands.verify(data)):
        raise typer.Exit(1)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.", resolve_path=True)],
    jobs: Annotated[int, typer.Option(min=1, max=32, help="Tables at once.")] = 2,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Back up the shop's databases; calls go on meanwhile."""
    from cli import commands

    run(commands.back_up(data, folder, jobs))


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `shop backup` made.", resolve_path=True)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the data that are there.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=32, help="Tables at once.")] = 2,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Restore a backup into an empty database, compare every row, and verify."""
    from cli import commands

    if not run(commands.restore(data, folder, jobs, replace=replace)):
        raise typer.Exit(1)


@app.command()
def doctor(data: DataOption = DEFAULT_DATA) -> None:
    """Look whether everything is there that the shop needs, and say what to do where it is not."""
    from cli import commands

    if not run(commands.doctor(data)):
        raise typer.Exit(1)


@app.command()
def top(
    at: Annotated[
        list[str] | None,
        typer.Option(help="NAME=HOST:PORT of a process' Prometheus page; several times."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and print it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: as JSON.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show rates, latencies and errors of each method, live. Status 1 when somebody is away."""
    from cli import commands

    if not run(commands.top(data, at or [], seconds, once=once or as_json, as_json=as_json)):
        raise typer.Exit(1)


@app.command()
def secrets(
    folder: Annotated[Path, typer.Argument(help="Where they go: a folder for each container.")],
    database_host: Annotated[
        str, typer.Option(help="Where containers find Postgres.")
    ] = "postgres",
    replica: Annotated[
        str, typer.Option(help="host:port of a read-only replica, if there is one.")
    ] = "",
    pooler: Annotated[str, typer.Option(help="host:port of a PgBouncer, if there is one.")] = "",
) -> None:
    """Make the secrets of a shop that runs in containers, where they are missing."""
    from cli import deployment_secrets

    made = deployment_secrets.write(folder, host=database_host, replica=replica, pooler=pooler)
    for path in made:
        typer.echo(f"made {path}")


@app.command()
def reconcile(data: DataOption = DEFAULT_DATA) -> None:
    """Bring payments in line with Stripe, once; status 1 when something is left for people."""
    from cli import reconcile as reconciliation

    if not run(reconciliation.reconcile(data)):
        raise typer.Exit(1)


@app.command()
def edge() -> None:
    """Print Envoy's configuration for containers, as the SHOP_… variables want it."""
    from cli import edge as edges
    from cli.edge_options import EdgeOptions
    from cli.edge_traces import collector

    async def render() -> str:
        return edges.render(edges.Edge.compose(EdgeOptions.of(os.environ), collector(os.environ)))

    typer.echo(run(render()), nl=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("shop"))


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work; what went wrong is said in a sentence, and the status is 1."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see cli.entry
    try:
        return asyncio.run(work)
    except StartError as error:
        errors.print("[bold red]shop:[/]", end=" ")
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from None
