"""Which variables whoever runs in containers understands."""

from __future__ import annotations

import functools
import re
from importlib import import_module
from pathlib import Path

from cli.topology import ALL_SERVICES

DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()


@functools.cache
def by_service(service: str) -> frozenset[str]:
    """Settings of a service, by the names that it reads them from."""
    fields = import_module(f"services.{service}.__main__").Settings.described()
    prefixes = ("SHOP_", f"SHOP_{service.upper()}_")
    return frozenset(prefix + name.upper() for prefix in prefixes for name in fields)


@functools.cache
def by_any_service() -> frozenset[str]:
    """What may be told to all of them at once."""
    return frozenset().union(*map(by_service, ALL_SERVICES))


@functools.cache
def by_the_edge() -> frozenset[str]:
    """What `shop edge` reads."""
    return frozenset(re.findall(r"SHOP_[A-Z_]+", DOCUMENTED.partition("## The edge")[2]))


def is_one(name: str, service: str | None = None) -> bool:
    """Whether a variable of ours is a setting: of a service, or without one of somebody at all."""
    name = name.removesuffix("_FILE")
    if not name.startswith("SHOP_"):
        return True  # Postgres's, OpenTelemetry's and so on
    if service is not None:
        return name in by_service(service)
    return name in by_any_service() | by_the_edge()
