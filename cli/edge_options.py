"""What an operator can choose about the edge, from the environment: who may call it, and how often.

`CAUTIOUS` is for the internet, `LENIENT` for a machine whose clients are all of one developer.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

from cli.programs import StartError

AccessLog = Literal["all", "errors"]

OFF = "off"
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"([1-9][0-9]{0,6})/([smh])")
# Scheme, host and port as browsers send them (RFC 6454); a star stands for anything in its place.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9.*-]+|\[[0-9a-f:]+\])(?::(?:[0-9]+|\*))?")


class Rate(NamedTuple):
    """So many calls in so many seconds, all at once or spread."""

    calls: int
    seconds: int

    @property
    def wait(self) -> int:
        """Whole seconds until the next call is surely free again."""
        return max(1, -(-self.seconds // self.calls))


_ALL_CALLS, _GUESSES = Rate(100, 1), Rate(30, 60)


class Tls(NamedTuple):
    """PEM files: the certificate with its chain, and its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """What can be chosen.

    `rate` is for all calls of one address, `strict_rate` for each of the methods that the contract
    calls strictly limited; None lifts a limit. With `trusted_proxies` in a row before the edge (a
    CDN, a load balancer), an address is the one that the first of them saw. A new signing key has
    to be published for `jwks_cache` seconds before it is used.
    """

    cors_origins: tuple[str, ...] = ("*",)
    rate: Rate | None = _ALL_CALLS
    strict_rate: Rate | None = _GUESSES
    trusted_proxies: int = 0
    access_log: AccessLog = "all"
    compression: bool = True
    tls: Tls | None = None
    jwks_cache: int = 60

    @classmethod
    def of(cls, environment: Mapping[str, str], otherwise: Self | None = None) -> Self:
        """What the environment says, and `otherwise` where it says nothing.

        Raises StartError, which names the variable, for what cannot be understood.
        """
        chosen = otherwise or cls()
        said = {name: environment[name].strip() for name in _READ if environment.get(name)}
        for name, text in said.items():
            field, read = _READ[name]
            try:
                chosen = dataclasses.replace(chosen, **cast("Any", {field: read(text)}))
            except ValueError as error:
                raise StartError(f"{name}={text}: {error}") from None
        return dataclasses.replace(chosen, tls=_tls(environment) or chosen.tls)

    @property
    def everywhere(self) -> bool:
        """Whether pages of all origins may call."""
        return "*" in self.cors_origins

    @property
    def origin_patterns(self) -> list[str]:
        """Regular expressions for the origins whose pages may call."""
        if self.everywhere:
            return [".*"]
        return [re.escape(origin).replace(r"\*", "[a-z0-9.-]*") for origin in self.cors_origins]


# For the internet, and where nothing else is said.
CAUTIOUS = EdgeOptions()
# Everything on a developer's machine comes from one address, tests and scripts included.
LENIENT = EdgeOptions(rate=Rate(1000, 1), strict_rate=Rate(20, 1), access_log="errors")


def _origins(text: str) -> tuple[str, ...]:
    if text == OFF:
        return ()
    origins = tuple(dict.fromkeys(part.strip().rstrip("/").lower() for part in text.split(",")))
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin, like https://shop.example or *")
    return origins


def _rate(text: str) -> Rate | None:
    if text == OFF:
        return None
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError("write 100/s, 30/m, 500/h or off")
    return Rate(int(found[1]), _SECONDS[found[2]])


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]", text):
        raise ValueError("write how many proxies are in a row before the edge, 0 to 9")
    return int(text)


def _seconds(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", text):
        raise ValueError("write a number of seconds")
    return int(text)


def _access_log(text: str) -> AccessLog:
    if text not in ("all", "errors"):
        raise ValueError("write all or errors")
    return cast("AccessLog", text)


def _switch(text: str) -> bool:
    if text not in ("on", OFF):
        raise ValueError("write on or off")
    return text == "on"


_READ = {
    "SHOP_CORS_ORIGINS": ("cors_origins", _origins),
    "SHOP_RATE_LIMIT": ("rate", _rate),
    "SHOP_SIGN_IN_RATE_LIMIT": ("strict_rate", _rate),
    "SHOP_TRUSTED_PROXIES": ("trusted_proxies", _count),
    "SHOP_ACCESS_LOG": ("access_log", _access_log),
    "SHOP_JWKS_CACHE_SECONDS": ("jwks_cache", _seconds),
    "SHOP_COMPRESSION": ("compression", _switch),
}


def _tls(environment: Mapping[str, str]) -> Tls | None:
    names = ("SHOP_TLS_CERTIFICATE", "SHOP_TLS_KEY")
    given = [Path(environment[name]).absolute() for name in names if environment.get(name)]
    if not given:
        return None
    if len(given) == 1:
        raise StartError(f"{' and '.join(names)} are set together, or not at all.")
    for path in given:
        if not path.is_file():
            raise StartError(f"{path}, which {' or '.join(names)} names, is no file.")
    return Tls(*given)
