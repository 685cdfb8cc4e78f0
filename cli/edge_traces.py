"""Where the edge sends its spans: as OpenTelemetry's own variables say, like those of services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from cli.programs import StartError
from cli.topology import Address

PREFIX = "OTEL_EXPORTER_OTLP_"
# Debian's; OTEL_EXPORTER_OTLP_CERTIFICATE names another.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PORTS = {"http": 80, "https": 443}
SHARES = {"always_on": 100.0, "always_off": 0.0}


@dataclass(frozen=True, slots=True)
class Collector:
    """What takes OTLP over HTTP at `url`, and how many of a hundred traces it is to get.

    A trace that the client has begun is taken or not as the client says.
    """

    url: str
    address: Address
    headers: Mapping[str, str] = field(default_factory=dict)
    percent: float = 100.0
    certificates: str = CERTIFICATES

    @property
    def is_encrypted(self) -> bool:
        """Whether it is reached over TLS."""
        return self.url.startswith("https:")


def collector(environment: Mapping[str, str]) -> Collector | None:
    """The collector that the environment names, if it does. Raises StartError."""
    url = environment.get(f"{PREFIX}TRACES_ENDPOINT", "")
    if not url and (base := environment.get(f"{PREFIX}ENDPOINT", "")):
        url = base.rstrip("/") + "/v1/traces"
    if not url or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    told = [environment.get(f"{PREFIX}{name}HEADERS", "") for name in ("", "TRACES_")]
    return Collector(
        url,
        _address(url),
        headers=_headers(",".join(told)),
        percent=_percent(environment),
        certificates=environment.get(f"{PREFIX}CERTIFICATE") or CERTIFICATES,
    )


def _address(url: str) -> Address:
    parts = urlsplit(url)
    try:
        port = parts.port or PORTS[parts.scheme]
    except (KeyError, ValueError):
        port = 0
    if not port or not parts.hostname:
        raise StartError(
            f"{PREFIX}ENDPOINT is {url!r}: it has to be http://host:port of an OTLP collector "
            "(OTLP over HTTP, whose usual port is 4318)."
        )
    return Address(parts.hostname, port)


def _headers(told: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in told.split(",") if "=" in pair]
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


def _percent(environment: Mapping[str, str]) -> float:
    sampler = environment.get("OTEL_TRACES_SAMPLER") or "always_on"
    kind = sampler.removeprefix("parentbased_")
    if kind in SHARES:
        return SHARES[kind]
    told = environment.get("OTEL_TRACES_SAMPLER_ARG") or "1"
    try:
        share = float(told)
    except ValueError:
        share = -1.0
    if kind != "traceidratio" or not 0 <= share <= 1:
        raise StartError(
            f"OTEL_TRACES_SAMPLER is {sampler!r} with OTEL_TRACES_SAMPLER_ARG {told!r}: take "
            "parentbased_always_on, parentbased_always_off, or parentbased_traceidratio with a "
            "share from 0 to 1."
        )
    return share * 100
