"""Comments of the contract as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping

_WORDS = {"jwks": "JWKS", "stripe": "Stripe"}


def prose(comment: str) -> str:
    """A comment without its line breaks; paragraphs stay apart."""
    paragraphs = re.split(r"\n\s*\n", comment.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def sentences(*texts: str) -> str:
    """What is said of one thing, in a row."""
    return " ".join(text for text in texts if text)


def values(said: Mapping[str, str]) -> str:
    """Names with what they mean, as a list."""
    return "\n".join(f"- `{name}`: {text}" for name, text in said.items())


def title(name: str) -> str:
    """`Create product` for `CreateProduct`."""
    first, *others = re.findall(r"[A-Z][a-z0-9]*", name)
    return " ".join([first, *(_WORDS.get(word.lower(), word.lower()) for word in others)])
