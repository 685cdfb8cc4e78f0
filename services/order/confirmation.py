"""The mail that tells a customer what they have bought."""

from __future__ import annotations

from email.message import EmailMessage

from services.kit.delivery import Letterhead
from services.kit.money import exponent
from services.kit.statements import Fields


def compose(order: Fields, letterhead: Letterhead) -> EmailMessage:
    """The confirmation of a paid order (a row with its lines)."""
    currency = order["currency"]
    lines = [
        _line(
            f"{line['quantity']} x {line['product_name']}{_options(line['options'])}",
            line["unit_price"] * line["quantity"],
            currency,
        )
        for line in order["lines"]
    ]
    tax = "of which tax" if order["tax_included"] else "Tax"
    sums = [_line("Shipping", order["shipping_total"], currency)]
    if order["tax_total"] and not order["tax_included"]:
        sums.append(_line(tax, order["tax_total"], currency))
    sums.append(_line("Total", order["total"], currency))
    if order["tax_total"] and order["tax_included"]:
        sums.append(_line(tax, order["tax_total"], currency))
    body = f"""Hello,

thank you for your order {order["number"]}. It is paid, and will be on its way soon.

{chr(10).join(lines)}

{chr(10).join(sums)}

You can follow it at {_address(order, letterhead)}
"""
    return letterhead.mail(
        id=f"order-{order['id']}",
        to=order["email"],
        subject=f"Your order {order['number']}",
        body=body,
    )


def _line(text: str, amount: int, currency: str) -> str:
    return f"  {text[:60]:<60} {format_amount(amount, currency):>16}"


def _options(options: dict[str, str]) -> str:
    return f" ({', '.join(options.values())})" if options else ""


def _address(order: Fields, letterhead: Letterhead) -> str:
    if letterhead.storefront_url:
        return f"{letterhead.storefront_url.rstrip('/')}/orders/{order['id']}"
    return f"{letterhead.public_url.rstrip('/')}/api/orders/{order['id']}/"


def format_amount(amount: int, currency: str) -> str:
    """An amount of minor units as people read it: `12.50 EUR`, `1250 JPY`."""
    places = exponent(currency)
    units, minor = divmod(amount, 10**places)
    return f"{units}.{minor:0{places}} {currency}" if places else f"{units} {currency}"
