"""The server: Stripe's URLs, the issuer's page and the control path on one port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.stripe import (
    balance,
    charges,
    confirmations,
    control,
    disputes,
    events,
    payment_intents,
    payment_methods,
    refunds,
    searches,
)
from sandbox.stripe.account import Account, Endpoint
from sandbox.stripe.api import Api
from sandbox.stripe.issuer_page import IssuerPage
from sandbox.stripe.webhooks import Courier

DRAIN_SECONDS = 5

ENDPOINTS: list[tuple[str, str, Endpoint]] = [
    ("POST", "/v1/payment_intents", payment_intents.create),
    ("GET", "/v1/payment_intents", payment_intents.index),
    ("GET", "/v1/payment_intents/search", searches.payment_intents),
    ("GET", "/v1/payment_intents/{id}", payment_intents.retrieve),
    ("POST", "/v1/payment_intents/{id}", payment_intents.update),
    ("POST", "/v1/payment_intents/{id}/confirm", confirmations.confirm),
    ("POST", "/v1/payment_intents/{id}/capture", payment_intents.capture),
    ("POST", "/v1/payment_intents/{id}/cancel", payment_intents.cancel),
    ("POST", "/v1/refunds", refunds.create),
    ("GET", "/v1/refunds", refunds.index),
    ("GET", "/v1/refunds/{id}", refunds.retrieve),
    ("POST", "/v1/refunds/{id}", refunds.update),
    ("GET", "/v1/charges", charges.index),
    ("GET", "/v1/charges/{id}", charges.retrieve),
    ("POST", "/v1/payment_methods", payment_methods.create),
    ("GET", "/v1/payment_methods/{id}", payment_methods.retrieve),
    ("GET", "/v1/disputes", disputes.index),
    ("GET", "/v1/disputes/{id}", disputes.retrieve),
    ("GET", "/v1/events", events.index),
    ("GET", "/v1/events/{id}", events.retrieve),
    ("GET", "/v1/balance", balance.retrieve),
    ("GET", "/v1/balance_transactions", balance.transactions),
    ("GET", "/v1/balance_transactions/{id}", balance.retrieve_transaction),
]


class Connection(H11Protocol):
    """An HTTP/1.1 connection that the application can cut, for the faults that lose answers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        inner = self.app

        async def application(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})["drop_connection"] = transport.abort
            await inner(scope, receive, send)

        self.app = application


def application(account: Account, public_url: str | None = None) -> Starlette:
    """The ASGI application; it delivers webhooks while it lives."""
    api = Api(account, public_url)
    page = IssuerPage(api)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        courier = asyncio.create_task(Courier(account).run())
        yield
        courier.cancel()
        await asyncio.gather(courier, return_exceptions=True)
        account.store.close()

    refuse = api.handler(None)

    async def unknown(request: Request, _: Exception) -> Response:
        return await refuse(request)

    return Starlette(
        routes=[
            *(Route(path, api.handler(call), methods=[how]) for how, path, call in ENDPOINTS),
            Route("/3d_secure/{id}", page.show, methods=["GET"]),
            Route("/3d_secure/{id}", page.decide, methods=["POST"]),
            *control.routes(api),
        ],
        exception_handlers={404: unknown, 405: unknown},
        lifespan=lifespan,
    )


def serve(account: Account, listening: socket.socket, public_url: str | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way, for a few seconds."""
    config = uvicorn.Config(
        application(account, public_url),
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=30,
    )
    uvicorn.Server(config).run(sockets=[listening])
