"""The secrets of a shop that runs in containers: a folder for each, with what it alone needs.

postgres/password                    of the database's owner
owner/database-url                   for `shop migrate`, `shop backup` and the like
<service>/database-url               the service's own role
<service>/service-secret             what the services show each other
users/keys/*.pem                     sign access tokens
payment/stripe-webhook-secret        checks the sandbox's events
stripe/webhook-secret                signs them

With a replica, and with a PgBouncer, also
catalog/replica-database-url         the catalogue's role, at the replica
<service>/pooler-database-url        the service's own role, through PgBouncer
pgbouncer/users                      who may come through it: an `auth_file`
"""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cli.data_folder import signing_key, write_secret
from cli.database import REPLICATED, at, service_url, user_of
from cli.topology import ALL_SERVICES

OWNER = "shop"
DATABASE = "shop"


def write(
    folder: Path,
    *,
    host: str = "postgres",
    port: int = 5432,
    replica: str = "",
    pooler: str = "",
) -> list[Path]:
    """Make what is missing and leave the rest as it is; what was made.

    The database is looked for at `host`, as the owner `shop`; `replica` and `pooler` are host:port
    of a read-only replica and of a PgBouncer, where there are any.
    """
    made: list[Path] = []

    def keep(name: str, value: str) -> str:
        path = folder / name
        if not path.exists():
            write_secret(path, value)
            made.append(path)
        return path.read_text().strip()

    password = keep("postgres/password", secrets.token_hex(24))
    owner = keep("owner/database-url", f"postgresql://{OWNER}:{password}@{host}:{port}/{DATABASE}")
    shared = keep(f"{ALL_SERVICES[0]}/service-secret", secrets.token_hex(32))
    for service in ALL_SERVICES:
        keep(f"{service}/database-url", service_url(owner, service))
        keep(f"{service}/service-secret", shared)
    urls = {
        service: (folder / service / "database-url").read_text().strip() for service in ALL_SERVICES
    }
    if replica:
        for service in REPLICATED:
            keep(f"{service}/replica-database-url", at(urls[service], replica))
    if pooler:
        for service, url in urls.items():
            keep(f"{service}/pooler-database-url", at(url, pooler))
        keep("pgbouncer/users", "".join(_user(url) for url in urls.values()))
    if not any((folder / "users" / "keys").glob("*.pem")):
        keep("users/keys/1.pem", signing_key())
    webhook = keep("payment/stripe-webhook-secret", f"whsec_{secrets.token_hex(32)}")
    keep("stripe/webhook-secret", webhook)
    return made


def _user(url: str) -> str:
    """Who logs in by this URL, as a line of PgBouncer's list."""
    name, password = user_of(url), unquote(urlsplit(url).password or "")
    name, password = (each.replace('"', '""') for each in (name, password))
    return f'"{name}" "{password}"\n'
