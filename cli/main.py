"""The `shop` command."""

from __future__ import annotations

import asyncio
import importlib.metadata
from pathlib import Path
from typing import Annotated, NoReturn

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
errors = Console(stderr=True, highlight=False, soft_wrap=True)

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", help="The folder that keeps everything.", resolve_path=True, show_default=".shop"
    ),
]
DEFAULT_DATA = Path(".shop")


@app.command()
def up(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The edge's port; 0: free ports everywhere.")
    ] = DEFAULT_PORT,
    data: DataOption = DEFAULT_DATA,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write addresses and credentials here, as JSON, once all answers."),
    ] = None,
) -> None:
    """Start Postgres, the services and Envoy, and keep them running. Ctrl-C ends all."""
    from cli.output import Output
    from cli.up import Options, up as run

    try:
        asyncio.run(run(Options(port, data, ready_file), Output()))
    except StartError as error:
        fail(error)


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
    try:
        if write:
            asyncio.run(commands.write_migration(data, only, write))
        elif check:
            if asyncio.run(commands.check_migrations(data, only)):
                raise typer.Exit(1)
        else:
            asyncio.run(commands.migrate(data, only))
    except StartError as error:
        fail(error)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("shop"))


def fail(error: StartError) -> NoReturn:
    """Say what is wrong, and end with status 1."""
    errors.print(f"[bold red]shop:[/] {error}", markup=True)
    raise typer.Exit(1)
