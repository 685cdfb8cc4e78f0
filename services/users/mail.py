"""The mails of the shop, as they wait in the outbox and as they are sent.

They are plain ASCII text with short lines, so that no encoding comes between a reader and a token.
Nothing that a user typed but the address stands in them: anybody can sign up with somebody else's
address, and a name could be made to read like a message of ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Literal, Self
from uuid import UUID

from services.kit.delivery import Letterhead
from services.kit.ids import uuid7

Kind = Literal["verify_email", "reset_password", "email_changed"]


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one user. The id stays the same however often delivery is tried."""

    kind: Kind
    user_id: str
    to: str
    token: str = ""
    id: str = ""

    @classmethod
    def of(cls, kind: Kind, user_id: UUID, to: str, token: str = "") -> Self:
        """A new mail."""
        return cls(kind, str(user_id), to, token, str(uuid7()))

    def payload(self) -> bytes:
        """What waits in the outbox. `mail_store` finds a user's mails there by `user_id`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """What `payload` made."""
        return cls(**json.loads(payload))


def compose(mail: Mail, letterhead: Letterhead) -> EmailMessage:
    """A mail, ready to be sent."""
    subject, body = _TEXTS[mail.kind](mail, letterhead)
    return letterhead.mail(id=mail.id, to=mail.to, subject=subject, body=body)


def _verify_email(mail: Mail, letterhead: Letterhead) -> tuple[str, str]:
    return (
        "Please confirm your e-mail address",
        f"""Hello,

somebody, hopefully you, has entered this e-mail address at our shop. To
confirm that it is yours, {_open(letterhead)} within 48 hours:

{_instructions(mail, letterhead, "verify-email", "verify-email/", {})}
If that was not you, there is nothing to do.
""",
    )


def _reset_password(mail: Mail, letterhead: Letterhead) -> tuple[str, str]:
    fields = {"new_password": "..."}
    return (
        "Set a new password",
        f"""Hello,

somebody, hopefully you, wants to set a new password for your account at our
shop. To do so, {_open(letterhead)} within one hour:

{_instructions(mail, letterhead, "reset-password", "password-reset/confirm/", fields)}
If that was not you, there is nothing to do: your password stays as it is.
""",
    )


def _email_changed(mail: Mail, letterhead: Letterhead) -> tuple[str, str]:
    return (
        "Your e-mail address was changed",
        """Hello,

the e-mail address of your account at our shop was changed: it is no longer
this one, and this is the last mail that we send here.

If that was not you, please tell us at once by answering this mail.
""",
    )


_TEXTS: dict[Kind, Callable[[Mail, Letterhead], tuple[str, str]]] = {
    "verify_email": _verify_email,
    "reset_password": _reset_password,
    "email_changed": _email_changed,
}


def _open(letterhead: Letterhead) -> str:
    return "open this link" if letterhead.storefront_url else "make this call"


def _instructions(
    mail: Mail, letterhead: Letterhead, page: str, method: str, fields: dict[str, str]
) -> str:
    """The link to click, or for a shop that is only an API, the call to make."""
    if letterhead.storefront_url:
        return f"{letterhead.storefront_url.rstrip('/')}/{page}?token={mail.token}\n"
    body = json.dumps({"token": mail.token, **fields})
    return f"""curl {letterhead.public_url.rstrip("/")}/api/auth/{method} \\
  -H 'content-type: application/json' \\
  -d '{body}'

The token by itself:

{mail.token}
"""
