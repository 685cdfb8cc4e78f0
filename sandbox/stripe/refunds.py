"""Refunds: in parts, in parallel, and never more than was captured.

https://docs.stripe.com/refunds. An endpoint runs to its end before the next one starts (store.py),
so what is left of a charge cannot be given away twice.
"""

from __future__ import annotations

from sandbox.stripe import balance, charges, currencies, errands, errors, events, identifiers, lists
from sandbox.stripe.account import Call
from sandbox.stripe.forms import Parameters
from sandbox.stripe.payment_methods import card_of
from sandbox.stripe.store import Object

REASONS = ("duplicate", "fraudulent", "requested_by_customer")
# How long the test cards for slow refunds take.
LATER_SECONDS = 2.0


def create(call: Call, parameters: Parameters) -> Object:
    """Refund `amount` of a charge, or what is left of it. Raises 400 for more than that."""
    charge = _charge(call, parameters)
    amount = parameters.integer("amount", least=1)
    reason = parameters.choice("reason", REASONS)
    metadata = parameters.metadata()
    parameters.finish()
    left = charges.unrefunded(call, charge)
    if left == 0:
        message = f"Charge {charge['id']} has already been refunded."
        raise errors.ApiError(400, message, code="charge_already_refunded")
    if charge["disputed"] and not _is_inquiry(call, charge):
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise errors.ApiError(400, message, code="charge_disputed")
    amount = amount or left
    if amount > left:
        asked = currencies.show(amount, charge["currency"])
        rest = currencies.show(left, charge["currency"])
        message = f"Refund amount ({asked}) is greater than unrefunded amount on charge ({rest})"
        raise errors.ApiError(400, message, param="amount")
    currencies.check(amount, charge["currency"])
    return _add(call, charge, amount, reason, metadata)


def retrieve_raw(call: Call, id: str) -> Object:
    refund = call.store.find("refund", id)
    if refund is None:
        raise errors.no_such("refund", id, "id", in_path=True)
    return refund


def retrieve(call: Call, parameters: Parameters, id: str) -> Object:
    parameters.finish()
    return retrieve_raw(call, id)


def update(call: Call, parameters: Parameters, id: str) -> Object:
    """Only metadata can change."""
    refund = retrieve_raw(call, id)
    refund["metadata"] = parameters.metadata(refund["metadata"])
    parameters.finish()
    call.store.save(refund)
    events.record(call, "refund.updated", refund)
    return refund


def index(call: Call, parameters: Parameters) -> Object:
    return lists.page(call, parameters, "refund", "/v1/refunds", ["charge", "payment_intent"])


def finish(call: Call, id: str) -> None:
    """A pending refund reached the customer's bank."""
    refund = retrieve_raw(call, id)
    if refund["status"] == "pending":
        refund["status"] = "succeeded"
        call.store.save(refund)
        events.record(call, "refund.updated", refund, {"status": "pending"})


def fail(call: Call, id: str) -> None:
    """The bank sent the money back: it is in the balance again, and refundable again."""
    refund = retrieve_raw(call, id)
    before = refund["status"]
    if before not in ("succeeded", "pending"):
        return
    charge = call.store.get("charge", refund["charge"])
    refund |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
    refund["failure_balance_transaction"] = balance.move(
        call, "refund_failure", refund, refund["amount"]
    )
    call.store.save(refund)
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    call.store.save(charge)
    events.record(call, "refund.updated", refund, {"status": before})
    events.record(call, "refund.failed", refund)


def _charge(call: Call, parameters: Parameters) -> Object:
    """The charge to refund, named itself or by its PaymentIntent."""
    charge_id, intent_id = parameters.text("charge"), parameters.text("payment_intent")
    if charge_id is None and intent_id is None:
        raise errors.invalid(
            "One of the following params should be provided for this request: payment_intent or "
            "charge.",
            code="parameter_missing",
        )
    param = "payment_intent"
    if charge_id is not None:
        param = "charge"
        charge = call.store.find("charge", charge_id)
        if charge is None:
            raise errors.no_such("charge", charge_id, "charge")
        if intent_id not in (None, charge["payment_intent"]):
            message = f"Charge {charge_id} does not belong to PaymentIntent {intent_id}."
            raise errors.invalid(message, "charge")
        intent_id = charge["payment_intent"]
    assert intent_id is not None
    intent = call.store.find("payment_intent", intent_id)
    if intent is None:
        raise errors.no_such("payment_intent", intent_id, "payment_intent")
    latest = intent["latest_charge"]
    found = call.store.find("charge", charge_id or latest or "")
    if found is None or not found["captured"]:
        message = f"This PaymentIntent ({intent_id}) does not have a successful charge to refund."
        raise errors.ApiError(400, message, param=param)
    return found


def _is_inquiry(call: Call, charge: Object) -> bool:
    cases = call.store.of(charge["payment_intent"], "dispute")
    return all(each["is_charge_refundable"] for each in cases)


def _add(
    call: Call, charge: Object, amount: int, reason: str | None, metadata: dict[str, str]
) -> Object:
    how = card_of(call, charge["payment_method"]).refund
    reference = {"reference_status": "pending", "reference_type": "acquirer_reference_number"}
    refund = {
        "id": identifiers.new("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": call.now(),
        "currency": charge["currency"],
        "destination_details": {"card": {**reference, "type": "refund"}, "type": "card"},
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "pending" if how == "is pending" else "succeeded",
        "transfer_reversal": None,
    }
    refund["balance_transaction"] = balance.move(call, "refund", refund, -amount)
    call.store.add(refund, parent=charge["payment_intent"])
    charge["amount_refunded"] += amount
    charge["refunded"] = charges.unrefunded(call, charge) == 0
    call.store.save(charge)
    events.record(call, "refund.created", refund)
    events.record(call, "charge.refunded", charge)
    if how == "is pending":
        errands.add(call, LATER_SECONDS, "finish refund", refund["id"])
    elif how == "fails later":
        errands.add(call, LATER_SECONDS, "fail refund", refund["id"])
    return refund
