"""The command that starts the sandbox: `python -m sandbox.stripe`."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from sandbox.stripe import logs
from sandbox.stripe.account import Account, Webhook
from sandbox.stripe.server import serve


def main(
    port: Annotated[
        int, typer.Option(envvar="STRIPE_SANDBOX_PORT", help="Port; 0 takes a free one.")
    ] = 12111,
    host: Annotated[
        str, typer.Option(envvar="STRIPE_SANDBOX_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="STRIPE_SANDBOX_DATA",
            help="SQLite file that keeps the state; without it, it ends with the process.",
        ),
    ] = None,
    webhook_url: Annotated[
        str | None, typer.Option(envvar="STRIPE_SANDBOX_WEBHOOK_URL", help="Where events go.")
    ] = None,
    webhook_secret: Annotated[
        list[str] | None,
        typer.Option(
            envvar="STRIPE_SANDBOX_WEBHOOK_SECRET",
            help="Signs events; several, separated by spaces, while one is rolled.",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="STRIPE_SANDBOX_API_KEY", help="The only test key to accept; default: any."
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            envvar="STRIPE_SANDBOX_PUBLIC_URL",
            help="Where browsers reach the 3-D Secure page; default: where the API was reached.",
        ),
    ] = None,
    log_format: Annotated[
        str, typer.Option(envvar="STRIPE_SANDBOX_LOG_FORMAT", help="json or pretty.")
    ] = "json",
    log_level: Annotated[
        str, typer.Option(envvar="STRIPE_SANDBOX_LOG_LEVEL", help="debug, info, warning, error.")
    ] = "info",
) -> None:
    """Serve the part of Stripe's API that a shop uses. No money moves; live keys are refused."""
    if log_format not in ("json", "pretty"):
        raise typer.BadParameter("json or pretty", param_hint="--log-format")
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter("debug, info, warning or error", param_hint="--log-level")
    if api_key is not None and not api_key.startswith(("sk_test_", "rk_test_")):
        raise typer.BadParameter("a test key (sk_test_…) is wanted", param_hint="--api-key")
    logs.configure(log_format, log_level)
    log = logs.logger("server")
    signing = webhook_secret or []
    if webhook_url is not None and not signing:
        signing = [f"whsec_{secrets.token_urlsafe(24)}"]
        log.warning("no webhook secret was given, so receivers cannot check this run's events")
    try:
        listening = socket.create_server((host, port), backlog=512)
    except OSError as error:
        typer.echo(f"Port {port} on {host} cannot be used: {error.strerror}.", err=True)
        raise typer.Exit(1) from None
    account = Account(str(data or ":memory:"), Webhook(webhook_url, signing), api_key)
    shown = listening.getsockname()
    log.info(
        "listening",
        url=f"http://{shown[0]}:{shown[1]}",
        data=str(data) if data else "in memory",
        webhook_url=webhook_url,
    )
    # uvicorn drains on either signal, and then raises it again, which ends the command.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        serve(account, listening, public_url)
    log.info("stopped")


if __name__ == "__main__":
    typer.run(main)
