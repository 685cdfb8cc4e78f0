"""Every statement on what goes by mail: the tokens in mails, and the mails in the outbox."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from services.kit import outbox
from services.kit.db import Connection, Statement, Transaction
from services.users.mail import Mail
from services.users.tables import mail_tokens, metadata, outbox_rows

VERIFY_EMAIL = "VERIFY_EMAIL"
RESET_PASSWORD = "RESET_PASSWORD"  # noqa: S105 - the purpose of a token, not one

# Topics of the outbox. A request for a reset is written before anybody has looked whether there is
# such a user, so that the answer cannot tell.
MAIL = "mail"
RESET_REQUEST = "reset_request"

OUTBOX = outbox.Outbox(metadata)

_USER_ID = sa.bindparam("of_user", type_=sa.Uuid)
_expiry = sa.func.now() + sa.bindparam("life", type_=sa.Interval)
_good = sa.and_(
    mail_tokens.c.token_hash == sa.bindparam("of_token", type_=sa.LargeBinary),
    mail_tokens.c.purpose == sa.bindparam("of_purpose"),
    mail_tokens.c.expire_time > sa.func.now(),
)
_new = insert(mail_tokens).values(
    user_id=_USER_ID,
    purpose=sa.bindparam("of_purpose"),
    token_hash=sa.bindparam("of_token", type_=sa.LargeBinary),
    expire_time=_expiry,
)
_REPLACE = Statement(
    _new.on_conflict_do_update(
        index_elements=[mail_tokens.c.user_id, mail_tokens.c.purpose],
        set_={name: _new.excluded[name] for name in ("token_hash", "expire_time")},
    )
)
_WHOSE = Statement(sa.select(mail_tokens.c.user_id).where(_good))
_USE = Statement(sa.delete(mail_tokens).where(_good))
_VOID = Statement(sa.delete(mail_tokens).where(mail_tokens.c.user_id == _USER_ID))
_payload = sa.cast(sa.func.convert_from(outbox_rows.c.payload, "UTF8"), JSONB)
_UNSEND = Statement(
    sa.delete(outbox_rows).where(
        sa.or_(
            _payload["user_id"].astext == sa.bindparam("of_user_text"),
            _payload["email_key"].astext == sa.bindparam("of_email_key"),
        )
    )
)
_old = (
    sa.select(mail_tokens.c.token_hash).where(mail_tokens.c.expire_time < sa.func.now()).limit(1000)
)
_FORGET_OLD = Statement(sa.delete(mail_tokens).where(mail_tokens.c.token_hash.in_(_old)))


async def replace(
    tx: Connection, user_id: UUID, purpose: str, token_hash: bytes, life: timedelta
) -> None:
    """Make a token good; the one that the user had for the purpose no longer is."""
    await _REPLACE.run(tx, of_user=user_id, of_purpose=purpose, of_token=token_hash, life=life)


async def whose(connection: Connection, purpose: str, token_hash: bytes) -> UUID | None:
    """The user of a good token."""
    found: UUID | None = await _WHOSE.value(connection, of_purpose=purpose, of_token=token_hash)
    return found


async def use(tx: Connection, purpose: str, token_hash: bytes) -> bool:
    """Use a good token up; False when it no longer is one."""
    return await _USE.run(tx, of_purpose=purpose, of_token=token_hash) == 1


async def void(tx: Connection, user_id: UUID) -> None:
    """No token that was mailed to the user is good any more."""
    await _VOID.run(tx, of_user=user_id)


async def post(tx: Transaction, mail: Mail) -> None:
    """Have a mail sent once the transaction has committed."""
    await OUTBOX.add(tx, MAIL, mail.payload())


async def request_reset(tx: Transaction, payload: bytes) -> None:
    """Have somebody look after the commit whether a reset can be mailed."""
    await OUTBOX.add(tx, RESET_REQUEST, payload)


async def unsend(tx: Connection, user_id: UUID, email_key: str) -> None:
    """Remove what is still to be mailed to a user."""
    await _UNSEND.run(tx, of_user_text=str(user_id), of_email_key=email_key)


async def forget_old(connection: Connection) -> int:
    """Remove up to 1,000 tokens that have expired; the number removed."""
    return await _FORGET_OLD.run(connection)
