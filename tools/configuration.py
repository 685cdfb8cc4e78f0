"""Writes docs/configuration.md from the services' settings: what each can be told, and its default.

`--check` fails when the page is not what the settings say.
"""

from __future__ import annotations

import argparse
import importlib
from enum import Enum
from pathlib import Path

from cli.topology import ALL_SERVICES
from services.kit.settings import ServiceSettings, Setting

NOTHING = ""
PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
HEAD = """\
# Configuration

Written by `make protos` from the settings of the services: change it there.

Services are told by environment variables. Each may be meant for one service, or shared by all: the
port of the users service is `SHOP_USERS_LISTEN`, else `SHOP_LISTEN`. Each may name a file instead,
which holds the value. The order is `SHOP_USERS_X`, `SHOP_USERS_X_FILE`, `SHOP_X`, `SHOP_X_FILE`.
What is missing or malformed ends the service at its start, with the variable's name; `shop doctor`
looks before.

Values marked *secret* appear in no log and no error.
"""
TAIL = """
## The `shop` command

| variable | what | default |
| --- | --- | --- |
| `SHOP_DATABASE_URL` | the database, as its owner, who migrates | the data folder's |
| `SHOP_<SERVICE>_DATABASE_URL` | the same as a service's own role | the owner's |
| `SHOP_[<SERVICE>_]DIRECT_DATABASE_URL` | the same without the pooler that they name | |
| `SHOP_[CATALOG_]REPLICA_DATABASE_URL` | a replica, as the owner or the service's role | none |
| `SHOP_PG_BIN` | folder of `postgres`, `pg_dump` and so on | the wheel's, or installed |
| `SHOP_ENVOY` | Envoy's program | the wheel's, or from the PATH |
| `SHOP_ADMIN_PASSWORD` | password of `shop create-admin` | asked for |
| `STRIPE_SECRET_KEY`, `STRIPE_WEBHOOK_SECRET` | `shop up` uses Stripe itself | a sandbox |

## The edge, as `shop up` and `shop edge` render it

| variable | what | default; of `shop up` |
| --- | --- | --- |
| `SHOP_CORS_ORIGINS` | origins of pages that may call, or `off` | `*` |
| `SHOP_RATE_LIMIT` | calls of one address, or `off` | `100/s`; `1000/s` |
| `SHOP_SIGN_IN_RATE_LIMIT` | of each method to sign in, up, or reset | `30/m`; `20/s` |
| `SHOP_TRUSTED_PROXIES` | proxies in a row before the edge | `0` |
| `SHOP_TLS_CERTIFICATE`, `SHOP_TLS_KEY` | PEM files | no TLS |
| `SHOP_ACCESS_LOG` | `all` or `errors` | `all`; `errors` |
| `SHOP_COMPRESSION` | `on` or `off` | `on` |
| `SHOP_JWKS_CACHE_SECONDS` | how long keys of tokens are kept | `60` |
"""


def settings_of(service: str) -> type[ServiceSettings]:
    """The settings class of a service."""
    kind: type[ServiceSettings] = importlib.import_module(f"services.{service}.__main__").Settings
    return kind


def page() -> str:
    """The whole page."""
    shared = {name for name in ServiceSettings.described() if name != "service"}
    classes = {service: settings_of(service) for service in ALL_SERVICES}
    users: dict[str, list[str]] = {}
    for service, kind in classes.items():
        for name in kind.described():
            if name not in shared and name != "service":
                users.setdefault(name, []).append(service)
    parts = [HEAD, "\n## Every service\n"]
    parts.append(_table({name: ServiceSettings.described()[name] for name in sorted(shared)}))
    several = {name: who for name, who in users.items() if len(who) > 1}
    parts.append("\n## Several services\n")
    parts.append(
        _table(
            {name: classes[who[0]].described()[name] for name, who in sorted(several.items())},
            of=several,
        )
    )
    for service, kind in classes.items():
        own = {n: f for n, f in kind.described().items() if users.get(n) == [service]}
        if own:
            parts.append(f"\n## Only {service}\n")
            parts.append(_table(own))
    return "".join(parts) + TAIL


def _table(fields: dict[str, Setting], of: dict[str, list[str]] | None = None) -> str:
    head = ["variable", "what", "kind", "default"] + (["of"] if of else [])
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for name, field in fields.items():
        row = [
            f"`SHOP_{name.upper()}`",
            field.rules.description or "",
            field.allowed,
            _default(field),
        ]
        row += [", ".join(of[name])] if of else []
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n" + "\n".join(lines) + "\n"


def _default(field: Setting) -> str:
    if field.is_required:
        return "**required**"
    if field.default in (None, ""):
        return NOTHING
    default = field.default.value if isinstance(field.default, Enum) else field.default
    return f"`{default}`"


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.configuration", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail when the page is not fresh")
    if not parser.parse_args().check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        raise SystemExit("Stale; run `make protos` and commit: docs/configuration.md")


if __name__ == "__main__":
    main()
