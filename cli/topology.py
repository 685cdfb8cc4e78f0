"""Which services there are, which of them run, and on which addresses."""

from __future__ import annotations

import random
import socket
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from cli.programs import StartError

# Every service has a schema and a role of its own.
ALL_SERVICES = ("users", "catalog", "cart", "order", "payment")
# These are started, and have routes at the edge.
SERVICES = ALL_SERVICES

DEFAULT_PORT = 8000
LOOPBACK = "127.0.0.1"
# Below the range that the kernel hands out to outgoing connections, so that a port stays free
# between the moment it is chosen and the moment its server starts, and across restarts.
_FREE_PORTS = range(20000, 32000)
# The latest ports that this process has chosen are its own, as long as it lives: several shops may
# start at the same time, and it takes a moment until somebody listens on a port that was chosen.
_CLAIMS: deque[socket.socket] = deque()
_MOST_CLAIMS = 200


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Topology:
    """The addresses of a shop on one machine; those of services by the names of their processes.

    The first process of a service is called like it, the others `catalog-2`, `catalog-3` …
    """

    edge: Address
    admin: Address
    postgres: Address
    stripe: Address
    services: Mapping[str, Address]
    metrics: Mapping[str, Address]

    def of(self, service: str) -> tuple[Address, ...]:
        """Where the processes of a service are."""
        return tuple(at for name, at in self.services.items() if service_of(name) == service)


def service_of(process: str) -> str:
    """The service that a process is one of."""
    return process.partition("-")[0]


def allocate(port: int, replicas: int = 1) -> tuple[Topology, list[str]]:
    """Addresses derived from the edge's port, and remarks about those that had to differ.

    The second process of each service is a hundred ports above the first, and so on.

    Port 0 takes free ports everywhere. Raises StartError when the edge's own port is taken.
    """
    if port and not is_free(port):
        raise StartError(
            f"Port {port} is taken by another program. "
            f"Choose another one: shop up --port {port + 100}"
        )
    remarks: list[str] = []
    taken: set[int] = {port}

    def address(what: str, offset: int) -> Address:
        wanted = port + offset if port else 0
        if not wanted or wanted > 65535 or not is_free(wanted):
            got = _free_port(taken)
            if wanted:
                remarks.append(f"Port {wanted} is taken: {what} listens on {got}.")
            wanted = got
        taken.add(wanted)
        return Address(LOOPBACK, wanted)

    numbers = {
        service if above == 0 else f"{service}-{above + 1}": number + 100 * above
        for above in range(replicas)
        for number, service in enumerate(ALL_SERVICES, start=1)
    }
    topology = Topology(
        edge=address("the edge", 0),
        admin=address("Envoy's admin page", 9),
        postgres=address("Postgres", 20),
        stripe=address("the Stripe sandbox", 6),
        services={name: address(name, number) for name, number in numbers.items()},
        metrics={
            name: address(f"{name}'s metrics", 10 + number) for name, number in numbers.items()
        },
    )
    return topology, remarks


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port that nobody listens on."""
    return _free_port(set())


def _free_port(taken: set[int]) -> int:
    for _ in range(1000):
        port = random.choice(_FREE_PORTS)  # noqa: S311 - no secret
        if port not in taken and is_free(port) and _claim(port):
            return port
    raise StartError("No free port found.")


def _claim(port: int) -> bool:
    """Keep others of this machine from choosing it, too; False when one of them has."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0shop:{port}")  # a name without a file, which ends with its process
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    while len(_CLAIMS) > _MOST_CLAIMS:
        _CLAIMS.popleft().close()
    return True
