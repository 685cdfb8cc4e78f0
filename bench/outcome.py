"""What an answer can be."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """Of a call: as expected, refused in the words that were told, or neither."""

    RIGHT = "right"
    REFUSED = "refused"
    WRONG = "wrong"
