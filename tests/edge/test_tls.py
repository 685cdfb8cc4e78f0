"""The edge with a certificate: TLS for everybody, HTTP/2 for those who ask for it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cli.edge_options import EdgeOptions, Tls
from tests.edge.conftest import Shop, running

GET_USER = "/shop.users.v1.UserService/GetUser"


def make_certificate(folder: Path) -> Tls:
    """A certificate for this machine that nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the shop of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Tls(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture(scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("tls")
    options = EdgeOptions(rate=None, strict_rate=None, tls=make_certificate(folder))
    async with running(folder, options=options) as shop:
        yield shop


def trusting(shop: Shop) -> ssl.SSLContext:
    assert shop.edge.options.tls is not None
    return ssl.create_default_context(cafile=shop.edge.options.tls.certificate)


async def test_rest(secured: Shop) -> None:
    async with httpx.AsyncClient(verify=trusting(secured)) as http:
        url = f"https://{secured.edge.listen}/api/users/7"
        answer = await http.get(url, headers=secured.signed_in)
    assert answer.status_code == httpx.codes.OK
    assert "max-age" in answer.headers["strict-transport-security"]


async def test_grpc(secured: Shop) -> None:
    assert secured.edge.options.tls is not None
    roots = secured.edge.options.tls.certificate.read_bytes()
    credentials = grpc.ssl_channel_credentials(roots)
    async with grpc.aio.secure_channel(str(secured.edge.listen), credentials) as channel:
        method: Any = channel.unary_unary(GET_USER)
        await method(b"", metadata=tuple(secured.signed_in.items()), timeout=10)
    assert secured.users.last.path == GET_USER


@pytest.mark.parametrize(
    ("offered", "taken"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None), (["spdy/3"], None)],
)
async def test_the_protocol_is_agreed_on(
    secured: Shop, offered: list[str], taken: str | None
) -> None:
    context = trusting(secured)
    if offered:
        context.set_alpn_protocols(offered)
    assert await asyncio.to_thread(_agreed, secured, context) == taken


def _agreed(shop: Shop, context: ssl.SSLContext) -> str | None:
    where = shop.edge.listen.host, shop.edge.listen.port
    with (
        socket.create_connection(where, timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        return wrapped.selected_alpn_protocol()


async def test_the_machine_itself_may_do_without(secured: Shop) -> None:
    """The edge asks itself for the keys of tokens: those of this shop are believed already."""
    answer = await secured.rest("GET", "/api/users/7", headers=secured.signed_in)
    assert answer.status_code == httpx.codes.OK
