"""The folder that holds everything a shop on one machine keeps, `.shop/` by default.

lock                     held by the `shop up` that uses the folder
postgres/                the data of the embedded Postgres
keys/*.pem               EC P-256 private keys that sign access tokens
running.json             where everything listens, while it runs
mailbox/                 mail, where no SMTP server is set
web/                     the pages that the edge serves, made anew at each start
secrets/                 postgres, service, admin.json: passwords and the secret the services share
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.programs import StartError


@dataclass(frozen=True, slots=True)
class Admin:
    """How the first administrator signs in."""

    email: str
    password: str


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where things are. Everything in it is readable by its owner alone."""

    path: Path

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def postgres_password(self) -> Path:
        return self.path / "secrets" / "postgres"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def mailbox(self) -> Path:
        return self.path / "mailbox"

    @property
    def envoy(self) -> Path:
        """Where the rendered configuration of the edge lies."""
        return self.path / "envoy.yaml"

    @property
    def web(self) -> Path:
        """The pages that the edge serves."""
        return self.path / "web"

    @property
    def demo_wanted(self) -> Path:
        """Is there from the first start until the demo has been loaded."""
        return self.path / "demo-wanted"

    @property
    def running(self) -> Path:
        """Where the parts of the running `shop up` are; there is none when it is not running."""
        return self.path / "running.json"

    @property
    def service_secret(self) -> Path:
        return self.path / "secrets" / "service"

    @property
    def stripe(self) -> Path:
        """What the Stripe sandbox remembers."""
        return self.path / "stripe.sqlite"

    @property
    def stripe_webhook_secret(self) -> Path:
        return self.path / "secrets" / "stripe-webhook"

    @property
    def stripe_address(self) -> Path:
        """Says where the Stripe sandbox is that `shop up` runs."""
        return self.path / "stripe-address"

    def read_stripe_address(self) -> str | None:
        """Where the Stripe sandbox was last; something else may be there by now."""
        return self.stripe_address.read_text().strip() if self.stripe_address.exists() else None

    @property
    def admin(self) -> Path:
        return self.path / "secrets" / "admin.json"

    def read_admin(self) -> Admin | None:
        """The administrator that `shop up` made here, if it made one."""
        if not self.admin.exists():
            return None
        return Admin(**json.loads(self.admin.read_text()))

    def write_admin(self, admin: Admin) -> None:
        """Keep how the administrator signs in."""
        write_secret(self.admin, json.dumps(asdict(admin)) + "\n")

    def prepare(self) -> None:
        """Make what is missing: the folders, the first signing key, the secrets."""
        for folder in (self.path, self.keys, self.mailbox, self.path / "secrets"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(self.keys.glob("*.pem")):
            write_secret(self.keys / "1.pem", signing_key())
        if not self.service_secret.exists():
            write_secret(self.service_secret, secrets.token_hex(32))
        if not self.stripe_webhook_secret.exists():
            write_secret(self.stripe_webhook_secret, f"whsec_{secrets.token_hex(32)}")
        # SQLite's journals get the rights of their database.
        self.stripe.touch(mode=0o600)

    def lock(self) -> TextIO:
        """Claim the folder while the answer stays open. Raises StartError if it is taken."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim = (self.path / "lock").open("a+")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.seek(0)
            holder = claim.read().strip() or "unknown"
            claim.close()
            raise StartError(
                f"{self.path} is in use by another `shop up` (process {holder}). "
                "End that one, or take another folder with --data."
            ) from None
        claim.seek(0)
        claim.truncate()
        claim.write(f"{os.getpid()}\n")
        claim.flush()
        return claim


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read; whoever reads it sees all of it or none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def signing_key() -> str:
    """A new key for access tokens: EC P-256, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode()
