"""The control path, `/_sandbox/…`: health, clock, faults, webhook, and what was seen; all JSON.

It is for tests and development and asks for no key; the server listens on loopback by default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.stripe import events
from sandbox.stripe.account import API_VERSION, Account, Call, Webhook
from sandbox.stripe.api import Api

Order = dict[str, Any]
Control = Callable[[Account, Order], Any]


def routes(api: Api) -> list[Route]:
    def seen(_: Account, __: Order) -> Any:
        return {"requests": [asdict(each) for each in api.seen]}

    def reset(account: Account, _: Order) -> Any:
        account.reset()
        api.seen.clear()
        return {}

    table: list[tuple[str, str, Control]] = [
        ("GET", "/health", health),
        ("POST", "/reset", reset),
        ("GET", "/requests", seen),
        ("GET", "/clock", clock),
        ("POST", "/clock", advance),
        ("GET", "/faults", faults),
        ("POST", "/faults", install),
        ("DELETE", "/faults", remove),
        ("DELETE", "/faults/{id:int}", remove),
        ("GET", "/webhook", webhook),
        ("PUT", "/webhook", set_webhook),
        ("GET", "/deliveries", deliveries),
        ("POST", "/events/{id}/resend", resend),
    ]
    return [
        Route(f"/_sandbox{path}", _route(api.account, control), methods=[method])
        for method, path, control in table
    ]


def health(account: Account, _: Order) -> Order:
    counts = account.store.rows("SELECT kind, count(*) AS many FROM objects GROUP BY kind")
    return {
        "status": "ok",
        "api_version": API_VERSION,
        "now": account.clock.now(),
        "data": account.data,
        "objects": {row["kind"]: row["many"] for row in counts},
    }


def clock(account: Account, _: Order) -> Order:
    return {"now": account.clock.now(), "advanced": account.clock.offset}


def advance(account: Account, order: Order) -> Order:
    """`{"advance": seconds}`: what becomes due on the way happens, and old keys are forgotten."""
    seconds = order.get("advance")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("advance must be a number of seconds")  # noqa: TRY004 - one kind of refusal
    account.advance(seconds)
    return clock(account, order)


def faults(account: Account, _: Order) -> Order:
    return {"faults": [asdict(each) for each in account.faults.all()]}


def install(account: Account, order: Order) -> Order:
    """`{"kind": …, "match": {"path": "/v1/refunds"}, "times": 3}`: see faults.py."""
    return asdict(account.faults.install(order))


def remove(account: Account, order: Order) -> Order:
    account.faults.remove(order.get("id"))
    return faults(account, order)


def webhook(account: Account, _: Order) -> Order:
    return {"url": account.webhook.url, "secrets": len(account.webhook.secrets)}


def set_webhook(account: Account, order: Order) -> Order:
    """`{"url": …, "secrets": [… the older ones too while one is rolled]}`; url null: none."""
    url, secrets = order.get("url"), order.get("secrets", [])
    if url is not None and not (isinstance(url, str) and re.match(r"^https?://", url)):
        raise ValueError("url must be an http(s) URL, or null")
    if not isinstance(secrets, list) or not all(isinstance(each, str) for each in secrets):
        raise ValueError("secrets must be a list of texts")
    if url is not None and not secrets:
        raise ValueError("without a secret nothing could be signed")
    account.webhook = Webhook(url, secrets)
    account.wake.set()
    return webhook(account, order)


def deliveries(account: Account, _: Order) -> Order:
    rows = account.store.rows(
        "SELECT event, state, attempts, answer, due FROM deliveries ORDER BY id DESC LIMIT 1000"
    )
    return {"deliveries": [dict(row) for row in rows]}


def resend(account: Account, order: Order) -> Order:
    """Send an event again, `{"copies": n}` times at once, whatever became of it before."""
    event = account.store.find("event", order["id"])
    if event is None:
        raise ValueError("there is no such event")
    copies = order.get("copies", 1)
    if not isinstance(copies, int) or not 1 <= copies <= 1000:
        raise ValueError("copies must be 1 to 1000")
    call, now = Call(account, base_url=""), account.clock.now()
    with account.store.transaction():
        for copy in range(copies):
            events.enqueue(call, event["id"], f"{event['id']} again {copy}", now)
    return {"event": event["id"], "copies": copies}


def _route(account: Account, control: Control) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        try:
            order = await _order(request)
            return JSONResponse(control(account, order | request.path_params))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)

    return handle


async def _order(request: Request) -> Order:
    """The JSON object of the body. A form, which any web page could send, is refused."""
    body = await request.body()
    if request.method == "GET" or not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ValueError("content-type must be application/json")
    order = json.loads(body)
    if not isinstance(order, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - one kind of refusal
    return order
