"""Mails: what they say, and that they arrive by SMTP or in the folder."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosmtplib
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cli.topology import free_port
from services.kit.delivery import Letterhead, Mailbox, Smtp
from services.kit.ids import uuid7
from services.kit.settings import SettingsError
from services.users.mail import Kind, Mail, compose

TOKEN = "0123456789abcdef" * 4
LETTERHEAD = Letterhead("Shop <no-reply@shop.example>", "https://shop.example/")
USER, SMTP_PASSWORD = "mailer", "p@ss:w/rd"


def mail(kind: Kind = "verify_email") -> Mail:
    return Mail.of(kind, uuid7(), "ada@example.com", TOKEN)


class TestCompose:
    @pytest.mark.parametrize(
        ("kind", "method"),
        [("verify_email", "verify-email"), ("reset_password", "password-reset/confirm")],
    )
    def test_the_call_to_make_and_the_token_can_be_copied(self, kind: Kind, method: str) -> None:
        raw = compose(mail(kind), LETTERHEAD).as_bytes().decode("ascii")
        assert f"curl https://shop.example/api/auth/{method}/ " in raw
        assert f'"token": "{TOKEN}"' in raw
        assert TOKEN in raw.splitlines()

    def test_with_web_pages_there_is_a_link_instead(self) -> None:
        letterhead = Letterhead("shop@shop.example", "https://api.example", "https://shop.example/")
        body = compose(mail("reset_password"), letterhead).get_content()
        assert f"https://shop.example/reset-password?token={TOKEN}" in body.splitlines()
        assert "curl" not in body

    @pytest.mark.parametrize("kind", ["verify_email", "reset_password", "email_changed"])
    def test_headers_are_what_mail_servers_want(self, kind: Kind) -> None:
        sent = mail(kind)
        message = compose(sent, LETTERHEAD)
        assert message["From"] == "Shop <no-reply@shop.example>"
        assert message["To"] == "ada@example.com"
        assert message["Subject"]
        assert message["Message-ID"] == f"<{sent.id}@shop.example>"
        assert message["Auto-Submitted"] == "auto-generated"
        assert all(len(line) < 120 for line in message.as_string().splitlines())

    def test_a_mail_comes_back_from_the_outbox_as_it_was(self) -> None:
        sent = mail()
        assert Mail.from_payload(sent.payload()) == sent


class TestMailbox:
    async def test_each_mail_is_a_file_that_only_the_owner_reads(self, tmp_path: Path) -> None:
        folder = tmp_path / "mailbox"
        await Mailbox(folder).send(compose(mail(), LETTERHEAD), name="1")
        (file,) = folder.iterdir()
        assert file.name == "1.eml"
        assert file.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700

    async def test_the_same_mail_again_is_the_same_file(self, tmp_path: Path) -> None:
        for _ in range(2):
            await Mailbox(tmp_path).send(compose(mail(), LETTERHEAD), name="1")
        assert [file.name for file in tmp_path.iterdir()] == ["1.eml"]


class Server:
    """Keeps what it receives; answers RCPT and DATA as it is told."""

    def __init__(self) -> None:
        self.received: list[Envelope] = []
        self.rcpt = ""
        self.data = "250 OK"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.rcpt:
            return self.rcpt
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.data.startswith("250"):
            self.received.append(envelope)
        return self.data


def authenticate(server: Any, session: Any, envelope: Any, mechanism: Any, data: Any) -> AuthResult:
    right = (data.login, data.password) == (USER.encode(), SMTP_PASSWORD.encode())
    return AuthResult(success=right, handled=False)


@contextlib.contextmanager
def serving(server: Server, **options: Any) -> Iterator[str]:
    """A mail server in a thread of its own, and where it is: `host:port`."""
    port = free_port()
    controller = Controller(server, hostname="127.0.0.1", port=port, **options)
    controller.start()
    yield f"127.0.0.1:{port}"
    controller.stop()


@pytest.fixture
def smtp() -> Iterator[tuple[Server, str]]:
    """A mail server, and where it is."""
    server = Server()
    with serving(server) as address:
        yield server, address


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server side of TLS, by a certificate that this process trusts meanwhile."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


async def send(url: str) -> EmailMessage:
    message = compose(mail(), LETTERHEAD)
    async with asyncio.timeout(60):
        await Smtp(url).send(message, name="1")
    return message


class TestSmtp:
    async def test_a_mail_arrives_as_it_was_composed(self, smtp: tuple[Server, str]) -> None:
        server, address = smtp
        message = await send(f"smtp://{address}")
        (received,) = server.received
        assert (received.mail_from, received.rcpt_tos) == (
            "no-reply@shop.example",
            ["ada@example.com"],
        )
        assert isinstance(received.content, bytes)
        assert received.content.split() == message.as_bytes().split()

    @pytest.mark.parametrize("answer", ["550 no such user", "553 not here"])
    async def test_a_recipient_refused_for_good_is_given_up(
        self, smtp: tuple[Server, str], answer: str
    ) -> None:
        server, address = smtp
        server.rcpt = answer
        await send(f"smtp://{address}")
        assert server.received == []

    async def test_a_mail_refused_for_good_is_given_up(self, smtp: tuple[Server, str]) -> None:
        server, address = smtp
        server.data = "554 looks like spam"
        await send(f"smtp://{address}")

    @pytest.mark.parametrize(
        ("part", "answer"), [("rcpt", "450 come back later"), ("data", "451 come back later")]
    )
    async def test_what_is_refused_for_now_is_tried_again(
        self, smtp: tuple[Server, str], part: str, answer: str
    ) -> None:
        server, address = smtp
        setattr(server, part, answer)
        with pytest.raises(aiosmtplib.SMTPException):
            await send(f"smtp://{address}")

    async def test_a_server_that_is_not_there_is_tried_again(
        self, smtp: tuple[Server, str]
    ) -> None:
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await send("smtp://127.0.0.1:1")

    @pytest.mark.parametrize("password", [SMTP_PASSWORD, "wrong"])
    async def test_with_starttls_and_a_login(
        self, certificate: ssl.SSLContext, password: str
    ) -> None:
        server = Server()
        with serving(
            server,
            tls_context=certificate,
            require_starttls=True,
            authenticator=authenticate,
            auth_required=True,
        ) as address:
            url = f"smtp+starttls://{USER}:{quote(password, safe='')}@{address}"
            if password == SMTP_PASSWORD:
                await send(url)
                assert len(server.received) == 1
            else:  # our own mistake: mails wait until it is put right
                with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                    await send(url)

    async def test_starttls_is_insisted_on(self, smtp: tuple[Server, str]) -> None:
        server, address = smtp
        with pytest.raises(aiosmtplib.SMTPException):
            await send(f"smtp+starttls://{address}")
        assert server.received == []

    async def test_tls_from_the_start(self, certificate: ssl.SSLContext) -> None:
        server = Server()
        with serving(server, ssl_context=certificate) as address:
            await send(f"smtps://{address}")
        assert len(server.received) == 1

    @pytest.mark.parametrize("url", ["http://127.0.0.1", "smtp://", "127.0.0.1:25", ""])
    def test_what_is_no_mail_server_is_refused_at_the_start(self, url: str) -> None:
        with pytest.raises(SettingsError):
            Smtp(url)
