"""How services and the edge are started. A service is told its own database, nobody else's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cli import edge, web
from cli.data_folder import DataFolder, write_secret
from cli.edge_options import LENIENT, EdgeOptions
from cli.edge_traces import collector
from cli.probes import http_status, is_serving
from cli.programs import LEAN_PYTHON, Program, StartError
from cli.topology import ALL_SERVICES, Topology, service_of

# Any of these means that payments go to Stripe.
STRIPE_KEYS = {
    "STRIPE_SECRET_KEY",
    "SHOP_STRIPE_SECRET_KEY",
    "SHOP_PAYMENT_STRIPE_SECRET_KEY",
}
# Envoy's own choice is a thread for each core. Where services and Postgres share the cores, threads
# that have half as much to do are woken twice as often, for a call each.
EDGE_WORKERS = max(1, (os.cpu_count() or 1) // 2)
# The sandbox takes any test key.
SANDBOX_KEY = "sk_test_sandbox"


def service_program(
    name: str,
    topology: Topology,
    folder: DataFolder,
    database: Mapping[str, str],
    environment: Mapping[str, str],
) -> Program:
    """One process of a service, for a surrounding `environment`."""
    address = topology.services[name]

    async def ready(pid: int) -> bool:
        return await is_serving(address)

    return Program(
        name=name,
        command=[*LEAN_PYTHON, "-m", f"services.{service_of(name)}"],
        module=f"services.{service_of(name)}",
        environment=service_environment(name, topology, folder, database, environment),
        ready=ready,
    )


def service_environment(
    name: str,
    topology: Topology,
    folder: DataFolder,
    database: Mapping[str, str],
    environment: Mapping[str, str],
) -> dict[str, str]:
    """The variables of a process: defaults, then what the user set, then what has to be.

    `database` is what it is told of its own (`Databases.told`).
    """
    service = service_of(name)
    own = f"SHOP_{service.upper()}_"
    others = tuple(f"SHOP_{other.upper()}_" for other in ALL_SERVICES if other != service)
    defaults = {
        "SHOP_LOG_FORMAT": "pretty",
        "SHOP_PUBLIC_URL": public_url(topology, environment),
        "PYTHONUNBUFFERED": "1",
    }
    if "SHOP_SERVICE_SECRET" not in environment:
        defaults["SHOP_SERVICE_SECRET_FILE"] = str(folder.service_secret)
    if service == "users":
        defaults[f"{own}SIGNING_KEYS"] = str(folder.keys)
    if service in ("users", "order"):
        defaults[f"{own}MAILBOX"] = str(folder.mailbox)
    theirs = {
        variable: value
        for variable, value in environment.items()
        if not variable.startswith(others) and "DATABASE_URL" not in variable
        # Stripe's keys are for payments alone.
        if service == "payment" or "STRIPE" not in variable
    }
    if service == "payment":
        defaults |= _stripe(topology, folder, environment)
    addresses = {
        f"SHOP_{other.upper()}_ADDRESS": ",".join(map(str, topology.of(other)))
        for other in ALL_SERVICES
    }
    return (
        defaults
        | theirs
        | addresses
        | {f"{own}{name}": url for name, url in database.items()}
        | {
            f"{own}LISTEN": str(topology.services[name]),
            f"{own}METRICS_LISTEN": str(topology.metrics[name]),
        }
    )


def uses_stripe(environment: Mapping[str, str]) -> bool:
    """Whether payments go to Stripe itself, and not to the sandbox."""
    return any(name.removesuffix("_FILE") in STRIPE_KEYS for name in environment)


def stripe_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Payments' settings from Stripe's own variables, each of which may name a file instead."""
    found = {}
    for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"):
        if name in environment:
            found[name.lower()] = environment[name]
        elif f"{name}_FILE" in environment:
            path = Path(environment[f"{name}_FILE"])
            try:
                found[name.lower()] = path.read_text().strip()
            except OSError as error:
                raise StartError(f"{name}_FILE names {path}: {error.strerror}") from None
    return found


def _stripe(
    topology: Topology, folder: DataFolder, environment: Mapping[str, str]
) -> dict[str, str]:
    """How payments reach Stripe: the real one by Stripe's own variables, else the sandbox."""
    if uses_stripe(environment):
        return {
            f"SHOP_PAYMENT_{name.upper()}": value
            for name, value in stripe_variables(environment).items()
        }
    return {
        "SHOP_PAYMENT_STRIPE_SECRET_KEY": SANDBOX_KEY,
        "SHOP_PAYMENT_STRIPE_WEBHOOK_SECRET_FILE": str(folder.stripe_webhook_secret),
        "SHOP_PAYMENT_STRIPE_BASE_URL": f"http://{topology.stripe}",
    }


def stripe_program(
    topology: Topology, folder: DataFolder, environment: Mapping[str, str]
) -> Program:
    """The Stripe sandbox, which tells the shop of its events through the edge."""

    async def ready(pid: int) -> bool:
        return await http_status(topology.stripe, "/_sandbox/health") == 200

    return Program(
        name="stripe",
        command=[*LEAN_PYTHON, "-m", "sandbox.stripe"],
        module="sandbox.stripe",
        environment={
            **{name: value for name, value in environment.items() if not name.startswith("SHOP_")},
            "PYTHONUNBUFFERED": "1",
            "STRIPE_SANDBOX_HOST": topology.stripe.host,
            "STRIPE_SANDBOX_PORT": str(topology.stripe.port),
            "STRIPE_SANDBOX_DATA": str(folder.stripe),
            "STRIPE_SANDBOX_WEBHOOK_URL": f"http://{topology.edge}/api/payment/webhooks/stripe/",
            "STRIPE_SANDBOX_WEBHOOK_SECRET": folder.stripe_webhook_secret.read_text().strip(),
            "STRIPE_SANDBOX_LOG_FORMAT": "pretty",
            "STRIPE_SANDBOX_LOG_LEVEL": "warning",
        },
        ready=ready,
    )


def edge_options(environment: Mapping[str, str]) -> EdgeOptions:
    """What was chosen about the edge. Raises StartError for what cannot be understood."""
    return EdgeOptions.of(environment, LENIENT)


def public_url(topology: Topology, environment: Mapping[str, str]) -> str:
    """Where clients find the edge. From this machine it also answers without TLS."""
    scheme = "http" if edge_options(environment).tls is None else "https"
    return f"{scheme}://{topology.edge}"


def edge_program(topology: Topology, folder: DataFolder, environment: Mapping[str, str]) -> Program:
    """Envoy, with its configuration and the pages it serves written to the data folder."""
    here = edge.Edge.of(
        topology,
        edge_options(environment),
        issuer=environment.get("SHOP_ISSUER", "shop"),
        web=folder.web.absolute(),
        traces=collector(environment),
    )
    web.build(folder.web, environment)
    write_secret(folder.envoy, edge.render(here))

    async def ready(pid: int) -> bool:
        return await http_status(topology.edge, "/.well-known/jwks.json") == 200

    return Program(
        name="envoy",
        command=[
            *(str(edge.envoy_binary()), "--config-path", str(folder.envoy), *edge.ARGUMENTS),
            *("--concurrency", str(EDGE_WORKERS)),
        ],
        environment={
            name: value
            for name, value in environment.items()
            if not name.startswith(("SHOP_", "STRIPE_"))
        },
        ready=ready,
    )
