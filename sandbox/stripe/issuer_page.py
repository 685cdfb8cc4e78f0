"""The issuer's 3-D Secure page: the customer approves or refuses, and is sent back to the shop."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sandbox.stripe import authentications, confirmations, currencies, events
from sandbox.stripe.account import Call
from sandbox.stripe.api import Api
from sandbox.stripe.store import Object

HEADERS = {
    "cache-control": "no-store",
    # The form's answer is a redirect to the shop, which form-action would have to list.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors *",
    "referrer-policy": "no-referrer",
}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>3-D Secure (sandbox)</title>
<style>
  :root {{ color-scheme: light dark; --ink: #1a1f36; --soft: #596178; --card: #fff;
    --ground: #eef1f6; --line: #d5dae3; --go: #1f6f4a }}
  @media (prefers-color-scheme: dark) {{ :root {{ --ink: #eef1f6; --soft: #a9b1c6; --card: #1d2333;
    --ground: #11151f; --line: #39415a; --go: #2f9468 }} }}
  * {{ box-sizing: border-box }}
  body {{ margin: 0; min-height: 100vh; min-height: 100svh; padding: 1rem; display: grid;
    place-items: center; background: var(--ground); color: var(--ink);
    font: 1rem/1.5 system-ui, sans-serif }}
  main {{ width: 100%; max-width: 26rem; padding: 1.5rem; border: 1px solid var(--line);
    border-radius: .75rem; background: var(--card) }}
  h1 {{ margin: 0 0 1rem; font-size: 1rem; color: var(--soft) }}
  dl {{ margin: 1rem 0 1.5rem; border-block: 1px solid var(--line); padding: .75rem 0 }}
  dl div {{ display: flex; justify-content: space-between; gap: 1rem }}
  dt {{ color: var(--soft) }}
  dd {{ margin: 0; text-align: right; overflow-wrap: anywhere }}
  .amount {{ margin: 0; font-size: 2rem; font-weight: 650; line-height: 1.2 }}
  form {{ display: flex; flex-wrap: wrap; gap: .75rem }}
  button {{ flex: 1 1 9rem; min-height: 3rem; border: 1px solid var(--line); border-radius: .5rem;
    background: transparent; color: inherit; font: inherit; font-weight: 600; cursor: pointer }}
  button.go {{ border-color: var(--go); background: var(--go); color: #fff }}
  button:focus-visible {{ outline: 3px solid var(--go); outline-offset: 2px }}
  footer {{ margin-top: 1.5rem; font-size: .875rem; color: var(--soft) }}
</style>
<main>
<h1>3-D Secure · your card's bank asks</h1>
{content}
<footer>A sandbox: no bank is asked and no money moves.</footer>
</main>
</html>
"""
QUESTION = """<p class="amount">{amount}</p>
<p>Do you approve this payment?</p>
<dl>
<div><dt>Card</dt><dd>{card}</dd></div>
<div><dt>For</dt><dd>{purpose}</dd></div>
</dl>
"""
FORM = """<form method="post">
<button class="go" id="test-source-authorize-3ds" name="decision" value="approve">Approve</button>
<button id="test-source-fail-3ds" name="decision" value="refuse">Refuse</button>
</form>"""


class IssuerPage:
    """GET shows the question; POST takes the decision, once: later ones change nothing."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def show(self, request: Request) -> Response:
        found = self._find(request)
        if found is None:
            return _page("There is no such authentication.", status=404)
        attempt, intent = found
        if not authentications.is_open(self._call(request), attempt, intent):
            return _done(attempt, intent)
        amount = currencies.show(intent["amount"], intent["currency"])
        method = self._api.account.store.get("payment_method", attempt["payment_method"])
        card = f"{method['card']['brand']} card ending in {method['card']['last4']}"
        purpose = intent["description"] or "A purchase"
        said = {"amount": amount, "card": card, "purpose": purpose}
        question = QUESTION.format(**{name: escape(text) for name, text in said.items()})
        return _html(question + FORM)

    async def decide(self, request: Request) -> Response:
        text = (await request.body())[:1000].decode("ascii", "replace")
        decision = parse_qs(text).get("decision", [""])[0]
        if decision not in ("approve", "refuse"):
            return _page("That is neither approved nor refused.", FORM, status=400)
        found = self._find(request)
        if found is None:
            return _page("There is no such authentication.", status=404)
        attempt, intent = found
        call = self._call(request)
        if authentications.is_open(call, attempt, intent):
            with call.store.transaction():
                _decide(call, attempt, intent, approved=decision == "approve")
        return _done(attempt, intent)

    def _call(self, request: Request) -> Call:
        account = self._api.account
        faults = account.faults.take(frozenset(["settle_later"]), path=request.url.path)
        return Call(account, self._api.base_url(request), faults=faults)

    def _find(self, request: Request) -> tuple[Object, Object] | None:
        store = self._api.account.store
        attempt = store.find("authentication", request.path_params["id"])
        if attempt is None:
            return None
        return attempt, store.get("payment_intent", attempt["payment_intent"])


def _decide(call: Call, attempt: Object, intent: Object, *, approved: bool) -> None:
    authentications.close(call, attempt, approved=approved)
    if not approved:
        confirmations.fail(call, intent, confirmations.AUTHENTICATION_FAILED)
    elif intent["confirmation_method"] == "manual":
        intent |= {"status": "requires_confirmation", "next_action": None}
        call.store.save(intent)
        events.record(call, "payment_intent.updated", intent)
    else:
        confirmations.settle(call, intent, authenticated=True)


def _done(attempt: Object, intent: Object) -> Response:
    """Back to the shop, with what became of the payment."""
    failed = intent["status"] in ("requires_payment_method", "canceled")
    pending = intent["status"] in ("processing", "requires_action", "requires_confirmation")
    status = "failed" if failed else "pending" if pending else "succeeded"
    if attempt["return_url"] is None:
        return _page(f"Done: {status}. You can close this page.")
    parts = urlsplit(attempt["return_url"])
    added = urlencode(
        {
            "payment_intent": intent["id"],
            "payment_intent_client_secret": intent["client_secret"],
            "redirect_status": status,
        }
    )
    url = urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))
    return RedirectResponse(url, 303, HEADERS)


def _page(text: str, form: str = "", status: int = 200) -> Response:
    return _html(f"<p>{escape(text)}</p>\n{form}", status)


def _html(content: str, status: int = 200) -> Response:
    return HTMLResponse(PAGE.format(content=content), status, HEADERS)
