"""Card numbers are found however they are written; the other numbers of a shop are not."""

from __future__ import annotations

import random
from secrets import token_hex

import pytest

from services.kit.card_numbers import holds_card_number
from services.kit.ids import uuid7

CARDS = [
    "4242424242424242",
    "4000056655665556",
    "5555555555554444",
    "2223003122003222",
    "5105105105105100",
    "378282246310005",
    "6011111111111117",
    "3056930009020004",
    "36227206271667",
    "3566002020360505",
    "6205500000000000004",
]


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_is_found_in_any_text(card: str) -> None:
    groups = [card[at : at + 4] for at in range(0, len(card), 4)]
    for text in (
        card,
        " ".join(groups),
        "-".join(groups),
        ".".join(groups),
        f"my card is {card}, thanks",
        f"pm_{card}",
        f"{' '.join(groups)} 12/27 123",
        f"https://shop.example/?n={card}&m=1",
        card.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}),
        "\u00a0".join(groups),
    ):
        assert holds_card_number(text), text


@pytest.mark.parametrize("card", CARDS)
def test_one_digit_changed_is_no_card_number(card: str) -> None:
    for place in range(len(card)):
        changed = card[:place] + str((int(card[place]) + 1) % 10) + card[place + 1 :]
        assert not holds_card_number(changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4006381333931",  # a barcode
        "1Z999AA10123456784",  # a parcel
        "9400111899223197428490",  # another one
        "+49 30 901820 4242 4242",
        "2026-11-23 17:57:24.123456",
        "0000000000000000",
        "4242 4242",
        "12345678901234567890123456789012",
        "order 4242-4242-4242",
    ],
)
def test_other_numbers_are_let_through(text: str) -> None:
    assert not holds_card_number(text)


def test_ids_are_let_through() -> None:
    chance = random.Random(3)
    for _ in range(20_000):
        digits = "".join(chance.choice("0123456789") for _ in range(32))
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        assert not holds_card_number("-".join(parts))
    assert not any(holds_card_number(f"payment {uuid7()} of {uuid7()}") for _ in range(2_000))
    # Many clients write keys and tokens like this.
    assert not holds_card_number("1d94242424242424242ab0c0ffee77aa")
    assert not holds_card_number("01a2239242424242424242424242aa77")
    assert not any(holds_card_number(f"user-{token_hex(16)}@example.com") for _ in range(20_000))
    assert not any(holds_card_number(f"KEY-{uuid7().hex}") for _ in range(20_000))
    # Not so, what was only put between letters.
    assert holds_card_number("card4242424242424242abcdef")
    assert holds_card_number("4242424242424242 00000000 abcdef")
