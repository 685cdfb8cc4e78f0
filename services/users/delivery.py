"""How mails leave: to an SMTP server, or into a folder."""

from __future__ import annotations

import asyncio
import os
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.kit import logs
from services.kit.settings import SettingsError

log = logs.logger("mail")

SMTP_SECONDS = 8.0
# Scheme to (port, TLS from the start, STARTTLS; None: if the server offers it).
SCHEMES: dict[str, tuple[int, bool, bool | None]] = {
    "smtp": (587, False, None),
    "smtp+starttls": (587, False, True),
    "smtps": (465, True, False),
}


class Delivery(Protocol):
    """Sends a mail. Raises when it is worth trying again; the same mail may then come twice."""

    async def send(self, message: EmailMessage, *, name: str) -> None: ...


class Mailbox:
    """A folder in which each mail is a file, `<id>.eml`, that only its owner can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, message: EmailMessage, *, name: str) -> None:
        """Write the file; it appears complete."""
        await asyncio.to_thread(self._write, name, message.as_bytes())

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._folder / f".{name}.{os.getpid()}"
        unfinished.unlink(missing_ok=True)
        with os.fdopen(
            os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as file:
            file.write(content)
        unfinished.replace(self._folder / f"{name}.eml")


class Smtp:
    """An SMTP server, named by a URL: `smtp://user:password@host:port`."""

    def __init__(self, url: str) -> None:
        """`smtps` is TLS at once, `smtp+starttls` insists on it, `smtp` takes what is offered.

        Raises SettingsError for anything else.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise SettingsError(
                "SHOP_USERS_SMTP_URL must be smtp://, smtp+starttls:// or "
                "smtps://user:password@host:port"
            )
        port, self._tls, self._starttls = SCHEMES[parts.scheme]
        self._host = parts.hostname
        self._port = parts.port or port
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    async def send(self, message: EmailMessage, *, name: str) -> None:
        """Hand the mail over. What is refused for good (5xx) is logged and given up."""
        try:
            await aiosmtplib.send(
                message,
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._tls,
                start_tls=self._starttls,
                timeout=SMTP_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            if any(refused.code < 500 for refused in error.recipients):
                raise
            log.warning("the recipient was refused", mail=name)
        except aiosmtplib.SMTPDataError as error:
            if error.code < 500:
                raise
            log.warning("the mail was refused", mail=name, code=error.code)
