"""The balance: one balance transaction for each movement of money, and their sums by currency."""

from __future__ import annotations

from sandbox.stripe import errors, identifiers, lists
from sandbox.stripe.account import Call
from sandbox.stripe.forms import Parameters
from sandbox.stripe.store import Object


def move(call: Call, category: str, source: Object, amount: int) -> str:
    """Add `amount` minor units (negative: take them away); answers the transaction's id."""
    body = {
        "id": identifiers.new("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": call.now(),
        "balance_type": "payments",
        "created": call.now(),
        "currency": source["currency"],
        "description": source.get("description"),
        "exchange_rate": None,
        "fee": 0,
        "fee_details": [],
        "net": amount,
        "reporting_category": category,
        "source": source["id"],
        "status": "available",
        "type": category,
    }
    return str(call.store.add(body, trait=category)["id"])


def retrieve(call: Call, parameters: Parameters) -> Object:
    """What the account has, by currency: captures less refunds and disputes, without fees."""
    parameters.finish()
    sums = call.store.rows(
        "SELECT body ->> 'currency' AS currency, sum(body ->> 'net') AS amount FROM objects "
        "WHERE kind = 'balance_transaction' GROUP BY 1 ORDER BY 1"
    )
    available = [_line(each["currency"], each["amount"]) for each in sums]
    pending = [_line(each["currency"], 0) for each in sums]
    return {
        "object": "balance",
        "available": available or [_line("usd", 0)],
        "livemode": False,
        "pending": pending or [_line("usd", 0)],
    }


def retrieve_transaction(call: Call, parameters: Parameters, id: str) -> Object:
    parameters.finish()
    found = call.store.find("balance_transaction", id)
    if found is None:
        raise errors.no_such("balance_transaction", id, "id", in_path=True)
    return found


def transactions(call: Call, parameters: Parameters) -> Object:
    url = "/v1/balance_transactions"
    return lists.page(call, parameters, "balance_transaction", url, ["currency", "source", "type"])


def _line(currency: str, amount: int) -> Object:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}
