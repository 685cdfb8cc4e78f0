"""Mails: how they are put together, and how they leave: to an SMTP server, or into a folder."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.kit import logs
from services.kit.settings import ServiceSettings, SettingsError, setting

log = logs.logger("mail")

SMTP_SECONDS = 8.0
# Scheme to (port, TLS from the start, STARTTLS; None: if the server offers it).
SCHEMES: dict[str, tuple[int, bool, bool | None]] = {
    "smtp": (587, False, None),
    "smtp+starttls": (587, False, True),
    "smtps": (465, True, False),
}


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What the mails of a shop have in common.

    `public_url` is where the API is, `storefront_url` where the shop's web pages are ("": none).
    """

    sender: str
    public_url: str
    storefront_url: str = ""

    def mail(self, *, id: str, to: str, subject: str, body: str) -> EmailMessage:
        """A mail, ready to be sent; one that is sent twice has the same `id` both times."""
        message = EmailMessage()
        message["From"] = self.sender
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<{id}@{self.sender.rpartition('@')[2].rstrip('>')}>"
        # RFC 3834: no out-of-office notes, please.
        message["Auto-Submitted"] = "auto-generated"
        # ASCII goes as it is, so that no encoding comes between a reader and a token.
        message.set_content(body, cte="7bit" if body.isascii() else "quoted-printable")
        return message


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
                "SHOP_SMTP_URL must be smtp://, smtp+starttls:// or smtps://user:password@host:port"
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


@dataclass(frozen=True, kw_only=True)
class MailSettings(ServiceSettings):
    """What a service that sends mails can be told, beside what every service can be."""

    mailbox: Path | None = setting(None, description="folder that mails are written to")
    smtp_url: str | None = setting(
        None,
        description="smtp://, smtp+starttls:// or smtps://user:password@host:port",
        secret=True,
    )
    mail_from: str = setting("Shop <no-reply@localhost>", description="sender of mails")
    storefront_url: str = setting("", description="the shop's web pages, to which mails link")

    def delivery(self) -> Delivery:
        """Where mails go: to the SMTP server, if there is one. Raises SettingsError for nowhere."""
        if self.smtp_url is not None:
            return Smtp(self.smtp_url)
        if self.mailbox is not None:
            return Mailbox(self.mailbox)
        own = f"SHOP_{self.service.upper()}_"
        raise SettingsError(f"set {own}SMTP_URL or {own}MAILBOX: mails must go somewhere")

    def letterhead(self) -> Letterhead:
        """What mails have in common."""
        return Letterhead(self.mail_from, self.public_url, self.storefront_url)
