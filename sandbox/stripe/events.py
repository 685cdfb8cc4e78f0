"""Events: what happened, with the object as it was then. Each is also queued for the webhook."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import errors, identifiers, lists
from sandbox.stripe.account import API_VERSION, Call
from sandbox.stripe.faults import EVENT_KINDS
from sandbox.stripe.forms import Parameters
from sandbox.stripe.store import Object

# Stripe tries for three days. https://docs.stripe.com/webhooks#retries
TRIED_SECONDS = 3 * 24 * 3600
MOST_TYPES = 20


def record(
    call: Call, name: str, subject: Object, previous: dict[str, Any] | None = None
) -> Object:
    """Write an event about `subject`, and queue its delivery unless a fault says otherwise."""
    data: Object = {"object": subject}
    if previous:
        data["previous_attributes"] = previous
    event = {
        "id": identifiers.new("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": call.now(),
        "data": data,
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": call.request_id, "idempotency_key": call.idempotency_key},
        "type": name,
    }
    call.store.add(event, trait=name)
    _queue(call, event)
    return event


def _queue(call: Call, event: Object) -> None:
    if call.account.webhook.url is None:
        return
    faults = call.account.faults.take(EVENT_KINDS, type=event["type"])
    if "drop_event" in faults:
        return
    due = call.account.clock.now()
    if "delay_event" in faults:
        due += faults["delay_event"].seconds
    # A shuffled event has a subject of its own: it waits for no other.
    subject = subject_of(event)
    if "shuffle_events" in faults:
        subject = event["id"]
        due += call.account.faults.random.uniform(0, faults["shuffle_events"].seconds)
    enqueue(call, event["id"], subject, due)
    if "repeat_event" in faults:
        for copy in range(faults["repeat_event"].copies):
            enqueue(call, event["id"], f"{event['id']} {copy}", due)


def enqueue(call: Call, event_id: str, subject: str, due: float) -> None:
    call.store.run(
        "INSERT INTO deliveries (event, subject, due, expires) VALUES (?, ?, ?, ?)",
        *(event_id, subject, due, due + TRIED_SECONDS),
    )
    call.account.wake.set()


def subject_of(event: Object) -> str:
    """What an event is about: events about one PaymentIntent are sent one after another."""
    about = event["data"]["object"]
    return str(about["id"] if about["object"] == "payment_intent" else about["payment_intent"])


def shown(call: Call, event: Object) -> Object:
    """The event as the API shows it: with how many deliveries are still owed."""
    owed = call.store.row(
        "SELECT count(*) AS owed FROM deliveries WHERE event = ? AND state = 'pending'", event["id"]
    )
    return event | {"pending_webhooks": owed["owed"] if owed else 0}


def retrieve(call: Call, parameters: Parameters, id: str) -> Object:
    parameters.finish()
    event = call.store.find("event", id)
    if event is None:
        raise errors.no_such("event", id, "id", in_path=True)
    return shown(call, event)


def index(call: Call, parameters: Parameters) -> Object:
    """Newest first; `type` may end in `.*`, each of up to 20 `types[]` is one name."""
    one, types = parameters.text("type"), parameters.strings("types")
    if len(types) > MOST_TYPES:
        raise errors.invalid(f"You may pass at most {MOST_TYPES} types.", "types")
    extra: list[lists.Condition] = []
    if one is not None:
        extra.append(("trait GLOB ?", [one]))
    elif types:
        extra.append((" OR ".join("trait = ?" for _ in types), list(types)))
    page = lists.page(call, parameters, "event", "/v1/events", extra=extra)
    return page | {"data": [shown(call, each) for each in page["data"]]}
