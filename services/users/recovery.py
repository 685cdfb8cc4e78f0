"""Tokens that travel by mail: to verify an address, and to set a new password.

A token works once, for the last one mailed, for a while; only its hash is stored.
"""

from __future__ import annotations

import json

from services.kit.db import Database, Row, Transaction
from services.kit.delivery import Delivery, Letterhead
from services.users import attempt_store, mail_store, rules, store, tokens
from services.users.mail import Mail, compose


async def mail_verification(tx: Transaction, user: Row) -> None:
    """Mail a token that shows that the address is the user's."""
    token = tokens.mail_token()
    await mail_store.replace(
        tx, user["id"], mail_store.VERIFY_EMAIL, tokens.digest(token), tokens.VERIFY_LIFE
    )
    await mail_store.post(tx, Mail.of("verify_email", user["id"], user["email"], token))


async def change_address(tx: Transaction, old: Row, new: Row) -> None:
    """Have a changed address verified. What was mailed to the old one is void, and it is told."""
    await mail_store.void(tx, old["id"])
    await mail_verification(tx, new)
    await mail_store.post(tx, Mail.of("email_changed", old["id"], old["email"]))


async def request_reset(tx: Transaction, email: str) -> None:
    """Have a token for a new password mailed, if somebody has this address.

    Nobody looks before the answer is given: neither its words nor its time can tell.
    """
    await mail_store.request_reset(tx, json.dumps({"email_key": rules.email_key(email)}).encode())


async def redeem(tx: Transaction, purpose: str, token: str) -> Row:
    """The locked user of a good token, which is now used up.

    Raises INVALID_ARGUMENT (MAIL_TOKEN_INVALID).
    """
    digest = tokens.digest(token)
    user_id = await mail_store.whose(tx, purpose, digest)
    if user_id is None:
        raise rules.mail_token_invalid()
    user = await store.lock(tx, user_id)
    # Looked at again, now that nobody else can use it.
    if not await mail_store.use(tx, purpose, digest):
        raise rules.mail_token_invalid()
    return user


class Postman:
    """Does what waits in the outbox."""

    def __init__(self, database: Database, delivery: Delivery, letterhead: Letterhead) -> None:
        self._db = database
        self._delivery = delivery
        self._letterhead = letterhead

    async def mail(self, payload: bytes) -> None:
        """Send a mail."""
        mail = Mail.from_payload(payload)
        await self._delivery.send(compose(mail, self._letterhead), name=mail.id)

    async def reset_request(self, payload: bytes) -> None:
        """Mail a token for a new password, if somebody has the address and not too many asked."""
        email_key = json.loads(payload)["email_key"]
        async with self._db.transaction(keyed=False) as tx:
            user = await store.find_and_lock(tx, email_key)
            if user is None or not await attempt_store.count(tx, rules.RESET_MAILS, email_key):
                return
            token = tokens.mail_token()
            await mail_store.replace(
                tx, user["id"], mail_store.RESET_PASSWORD, tokens.digest(token), tokens.RESET_LIFE
            )
            await mail_store.post(tx, Mail.of("reset_password", user["id"], user["email"], token))
