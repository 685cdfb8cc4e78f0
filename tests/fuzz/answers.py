"""Answers of calls, and what no answer may be or show."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from google.protobuf.message import Message

# Of our program, its libraries, its database: none of it is a client's business. What a request may
# hold, and an answer repeat, is not among it.
INSIDES = re.compile(
    r"Traceback|\.py\b|site-packages|asyncpg|sqlalchemy|argon2|protobuf|protovalidate|psycopg|uvloop"
    r"|<class |<function | object at 0x|\b[A-Z]\w+(?:Error|Exception)\b|\basync def\b"
    r"|\b(?:SELECT|INSERT|UPDATE|DELETE FROM|FROM|WHERE|RETURNING)\b|constraint|relation|violates"
    r"|\bUUID\("
    rf"|{re.escape(str(Path(__file__).resolve().parents[2]))}|/usr/|/root|/home",
)
# What a request may bring about on no account.
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
# What a busy machine may bring about, once.
BUSY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclass(frozen=True)
class Answer:
    """How a call ended: with a message, or with everything that the client was told in words."""

    code: grpc.StatusCode
    text: str = ""
    message: Message | None = None
    reason: str = ""
    wrong: list[str] = field(default_factory=list)
    """What was wrong with its form."""

    @property
    def said(self) -> str:
        """All that the client can read of it."""
        if self.message is None:
            return self.text
        return self.message.SerializeToString().decode("utf-8", "replace")


def gives_away(text: str) -> str:
    """What in a text nobody outside should read, if anything. Names of types are public."""
    found = INSIDES.search(re.sub(r"type\.googleapis\.com/[\w.]+", "", text))
    return found[0] if found else ""


def complaint(answer: Answer) -> str:
    """What is wrong with an answer, whoever got it; "" for nothing."""
    if answer.code in NEVER | BUSY:
        return f"it is {answer.code.name}"
    if answer.wrong:
        return answer.wrong[0]
    shown = gives_away(answer.said)
    return f"it shows {shown!r}" if shown else ""
