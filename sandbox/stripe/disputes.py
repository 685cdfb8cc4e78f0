"""Disputes: a customer asks their bank for the money back. Test cards open one with the charge."""

from __future__ import annotations

from sandbox.stripe import balance, errors, events, identifiers, lists
from sandbox.stripe.account import Call
from sandbox.stripe.forms import Parameters
from sandbox.stripe.store import Object

ANSWER_SECONDS = 9 * 24 * 3600
EVIDENCE = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
]


def begin(call: Call, charge: Object, reason: str) -> None:
    """Open a dispute about a charge; an inquiry moves no money."""
    inquiry = reason == "inquiry"
    dispute = _new(call, charge, "fraudulent" if inquiry else reason, inquiry=inquiry)
    if not inquiry:
        moved = balance.move(call, "adjustment", dispute, -charge["amount"])
        dispute["balance_transactions"] = [call.store.get("balance_transaction", moved)]
    call.store.add(dispute, parent=charge["payment_intent"])
    charge["disputed"] = True
    call.store.save(charge)
    events.record(call, "charge.dispute.created", dispute)
    if not inquiry:
        events.record(call, "charge.dispute.funds_withdrawn", dispute)


def retrieve(call: Call, parameters: Parameters, id: str) -> Object:
    parameters.finish()
    dispute = call.store.find("dispute", id)
    if dispute is None:
        raise errors.no_such("dispute", id, "dispute", in_path=True)
    return dispute


def index(call: Call, parameters: Parameters) -> Object:
    return lists.page(call, parameters, "dispute", "/v1/disputes", ["charge", "payment_intent"])


def _new(call: Call, charge: Object, reason: str, *, inquiry: bool) -> Object:
    brand = charge["payment_method_details"]["card"]["brand"]
    return {
        "id": identifiers.new("du"),
        "object": "dispute",
        "amount": charge["amount"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": call.now(),
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": call.now() + ANSWER_SECONDS,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": brand,
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": brand,
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
