"""One API request from headers to answer: key, parameters, idempotency, endpoint, faults, log."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox.stripe import api_keys, card_numbers, errors, expansions, forms, identifiers, logs
from sandbox.stripe.account import API_VERSION, Account, Call, Endpoint
from sandbox.stripe.faults import REQUEST_KINDS, Fault
from sandbox.stripe.forms import Form, Parameters

FORM = "application/x-www-form-urlencoded"
LARGEST_BODY = 256 * 1024
REMEMBERED = 10_000
VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$")

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Seen:
    """A request that came in, for those who test: card numbers blanked, no key."""

    id: str
    method: str
    path: str
    time: float
    idempotency_key: str | None = None
    parameters: Form = field(default_factory=dict)
    status: int | None = None
    replayed: bool = False
    faults: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass
class Answer:
    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


class Api:
    """Runs endpoints. An endpoint does not await, so each is one transaction after another."""

    def __init__(self, account: Account, public_url: str | None = None) -> None:
        self.account = account
        self.seen: deque[Seen] = deque(maxlen=REMEMBERED)
        self._public_url = public_url
        self._log = logs.logger("api")

    def handler(self, endpoint: Endpoint | None) -> Handler:
        """What serves a route; None answers that there is no such URL."""

        async def handle(request: Request) -> Response:
            return await self._handle(request, endpoint)

        return handle

    def base_url(self, request: Request) -> str:
        """Where browsers reach this server."""
        return self._public_url or str(request.base_url).rstrip("/")

    async def _handle(self, request: Request, endpoint: Endpoint | None) -> Response:
        started = time.perf_counter()
        path = request.url.path
        seen = Seen(identifiers.new("req", 14), request.method, path, self.account.clock.now())
        self.seen.append(seen)
        faults: dict[str, Fault] = {}
        try:
            answer = await self._answer(request, endpoint, seen, faults)
        except errors.ApiError as error:
            answer = _refusal(error, seen.id)
        except Exception:
            self._log.exception("request failed", request_id=seen.id)
            answer = _refusal(errors.internal(began=True), seen.id)
        seen.status, seen.faults = answer.status, list(faults)
        self._log.info(
            "request",
            **{key: value for key, value in asdict(seen).items() if key != "parameters"},
            milliseconds=round((time.perf_counter() - started) * 1000, 2),
        )
        return await self._send(request, answer, seen, faults)

    async def _answer(
        self, request: Request, endpoint: Endpoint | None, seen: Seen, faults: dict[str, Fault]
    ) -> Answer:
        api_keys.check(request.headers.get("authorization"), self.account.api_key)
        _check_version(request)
        if endpoint is None:
            raise errors.unknown_url(request.method, request.url.path)
        form = await _form(request)
        seen.parameters = card_numbers.redact(form)
        card_numbers.refuse(form)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        seen.idempotency_key = key
        faults |= self.account.faults.take(
            REQUEST_KINDS, method=seen.method, path=seen.path, idempotency_key=key
        )
        if "lose_request" in faults:
            raise errors.internal(began=False)
        if "rate_limit" in faults:
            raise errors.rate_limited()
        if "server_error" in faults:
            raise errors.internal(began=False)
        call = Call(self.account, self.base_url(request), seen.id, key, faults)
        with self.account.keys.held(key):
            if "delay_request" in faults:
                await asyncio.sleep(faults["delay_request"].seconds)
            return self._run(call, endpoint, request.url.path, request.path_params, form, seen)

    def _run(
        self, call: Call, endpoint: Endpoint, path: str, ids: dict[str, Any], form: Form, seen: Seen
    ) -> Answer:
        """Repeat the saved answer, or run the endpoint and save its answer with its effect."""
        store, keys, key = self.account.store, self.account.keys, call.idempotency_key
        with store.transaction():
            saved = keys.answer(key, path, form)
            if saved is not None:
                seen.replayed = True
                headers = {
                    "idempotent-replayed": "true",
                    "original-request": saved["request_id"],
                }
                return Answer(saved["status"], saved["body"], headers)
            status, body, began = self._execute(call, endpoint, ids, form)
            if "server_error_after" in call.faults:
                error = errors.internal(began=True)
                status, body, began = error.status, error.body(seen.id), True
            text = json.dumps(body, indent=2)
            if key is not None and began:
                keys.keep(key, path, form, status=status, body=text, request_id=seen.id)
        seen.error = body.get("error", {}).get("code") if status >= 400 else None
        return Answer(status, text, {"original-request": seen.id} if key else {})

    def _execute(
        self, call: Call, endpoint: Endpoint, ids: dict[str, Any], form: Form
    ) -> tuple[int, dict[str, Any], bool]:
        """Status, body, and whether the endpoint began its work: only then is the answer kept."""
        assert call.request_id is not None
        parameters = Parameters(form)
        try:
            with self.account.store.savepoint():
                try:
                    paths = parameters.strings("expand")
                    body = endpoint(call, parameters, **ids)
                    return 200, expansions.expand(call, body, paths), True
                except errors.CardError as declined:
                    return declined.status, declined.body(call.request_id), True
        except errors.ApiError as error:
            return error.status, error.body(call.request_id), error.began

    async def _send(
        self, request: Request, answer: Answer, seen: Seen, faults: dict[str, Fault]
    ) -> Response:
        if "delay_answer" in faults:
            await asyncio.sleep(faults["delay_answer"].seconds)
        if faults.keys() & {"lose_answer", "lose_request"}:
            request.scope["extensions"]["drop_connection"]()
            await request.receive()
        body = answer.body
        if "wrong_answer" in faults and answer.status == 200:
            body = json.dumps(json.loads(body) | faults["wrong_answer"].set, indent=2)
        headers = {
            "cache-control": "no-cache, no-store",
            "request-id": seen.id,
            "stripe-version": request.headers.get("stripe-version", API_VERSION),
            **answer.headers,
        }
        if seen.idempotency_key:
            headers["idempotency-key"] = seen.idempotency_key
        if answer.status == 409:
            headers["stripe-should-retry"] = "true"
        return Response(body, answer.status, headers, "application/json")


def _refusal(error: errors.ApiError, request_id: str) -> Answer:
    return Answer(error.status, json.dumps(error.body(request_id), indent=2))


def _check_version(request: Request) -> None:
    version = request.headers.get("stripe-version")
    if version is not None and not VERSION.match(version):
        raise errors.invalid(f"Invalid Stripe API version: {version[:40]}")


async def _form(request: Request) -> Form:
    """The parameters: of the query, or of the body of a POST."""
    if request.method != "POST":
        return forms.decode(request.url.query)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise errors.ApiError(413, "The request is too large.", began=False)
    kind = request.headers.get("content-type", FORM).partition(";")[0].strip().lower()
    if body and kind != FORM:
        raise errors.invalid(
            "Invalid request (check that your POST content type is "
            "application/x-www-form-urlencoded). If you have questions, we can help at "
            "https://support.stripe.com/."
        )
    try:
        return forms.decode(body.decode("ascii"))
    except UnicodeDecodeError:
        raise errors.invalid("Invalid request: the body is not form-encoded.") from None
