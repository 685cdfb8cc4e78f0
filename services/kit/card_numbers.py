"""Card numbers in texts: found, so that they can be refused before anything keeps them.

What counts is a number of a card network's length, beginning like its cards, with Luhn's check
digit (ISO/IEC 7812-1), also when it is written in groups. The beginnings keep out most of the
numbers that shops are full of: barcodes, parcels, telephones.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator

from google.protobuf.message import Message
from grpc import StatusCode

from services.kit import validation
from services.kit.errors import FieldViolation, ServiceError
from shop.errors.v1 import reason_pb2

# Networks: what their numbers begin with, and how long those are.
_NETWORKS = (
    (re.compile(r"4"), {16, 19}),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),  # Mastercard
    (re.compile(r"3[47]"), {15}),  # American Express
    (re.compile(r"30[0-5]|3095|3[689]"), {14, 16, 19}),  # Diners Club
    (re.compile(r"6011|64[4-9]|65"), {16, 19}),  # Discover
    (re.compile(r"352[89]|35[3-8]"), {16, 19}),  # JCB
    (re.compile(r"62|81"), {16, 17, 18, 19}),  # UnionPay
    (re.compile(r"50|5[6-8]|6[0-9]"), {16, 17, 18, 19}),  # Maestro
)
_LENGTHS = frozenset().union(*(lengths for _, lengths in _NETWORKS))
_SHORTEST, _LONGEST = min(_LENGTHS), max(_LENGTHS)

# Digits in groups, as people write them.
_GROUPS = re.compile(r"\d+(?:[ \t.\-_/\u2010-\u2015]{1,3}\d+)*")
# An id may have a run of digits that looks like a card by chance: one in some thousand that are
# written in hexadecimal digits has. So UUIDs do not count, nor long words of such digits.
_ID = re.compile(
    r"(?i)(?<![0-9a-z])"
    r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[0-9]*[a-f])[0-9a-f]{24,})"
    r"(?![0-9a-z])"
)


def holds_card_number(text: str) -> bool:
    """Whether `text` holds what looks like the number of a card."""
    # Most texts are short, or ids, or have few digits.
    if len(text) < _SHORTEST or _ID.fullmatch(text) or sum(map(str.isdigit, text)) < _SHORTEST:
        return False
    plain = _ID.sub(" # ", unicodedata.normalize("NFKC", text))
    return any(
        _is_card_number(digits)
        for match in _GROUPS.finditer(plain)
        for digits in _joined(re.findall(r"\d+", match[0]))
    )


def refuse(request: Message, key: str = "") -> None:
    """Raise INVALID_ARGUMENT (CARD_NUMBER_REFUSED) for a card number in any text of a request.

    `key` is its idempotency key, which is kept as well.
    """
    for path, text in itertools.chain(validation.strings(request), [("idempotency-key", key)]):
        if holds_card_number(text):
            raise ServiceError(
                StatusCode.INVALID_ARGUMENT,
                reason_pb2.REASON_CARD_NUMBER_REFUSED,
                f"{path} holds what looks like a card number; the shop takes none.",
                metadata={"field": path},
                violations=[FieldViolation(path, "must not hold a card number")],
            )


def _joined(groups: list[str]) -> Iterator[str]:
    """Neighbouring groups put together, as long as they could be one card's number."""
    for start in range(len(groups)):
        digits = ""
        for group in groups[start:]:
            digits += group
            if len(digits) > _LONGEST:
                break
            yield digits


def _is_card_number(digits: str) -> bool:
    return (
        any(len(digits) in lengths and begins.match(digits) for begins, lengths in _NETWORKS)
        and len(set(digits)) > 1
        and _luhn(digits)
    )


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
