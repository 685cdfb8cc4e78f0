"""Every statement on attempts: what may only be tried so often (see `rules.Limit`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, array, insert

from services.kit.db import Connection, Statement
from services.users import rules
from services.users.tables import attempts

_SUBJECT = sa.bindparam("of_subject", type_=sa.LargeBinary)
_since = sa.func.now() - sa.bindparam("within", type_=sa.Interval)
_decisive = attempts.c.times[sa.bindparam("most", type_=sa.Integer)]

# The newest first, and no more of them than any limit looks at.
_times = sa.func.array_prepend(sa.func.now(), attempts.c.times, type_=attempts.c.times.type)
_COUNT = Statement(
    insert(attempts)
    .values(subject=_SUBJECT, times=array([sa.func.now()]))
    .on_conflict_do_update(
        index_elements=[attempts.c.subject],
        set_={"times": _times[1 : rules.MOST_ATTEMPTS], "update_time": sa.func.now()},
        where=sa.func.coalesce(_decisive <= _since, sa.true()),
    )
    .returning(sa.true())
)
# Seconds until the next attempt is allowed; 0 or less is now.
_wait = sa.cast(sa.extract("epoch", _decisive - _since), sa.Float)
_WAIT = Statement(sa.select(_wait).where(attempts.c.subject == _SUBJECT))
_CLEAR = Statement(sa.delete(attempts).where(attempts.c.subject == _SUBJECT).returning(_wait))
_FORGET = Statement(
    sa.delete(attempts).where(
        attempts.c.subject == sa.any_(sa.bindparam("subjects", type_=ARRAY(sa.LargeBinary)))
    )
)
_old = (
    sa.select(attempts.c.subject)
    .where(attempts.c.update_time < sa.func.now() - sa.bindparam("age", type_=sa.Interval))
    .limit(1000)
)
_FORGET_OLD = Statement(sa.delete(attempts).where(attempts.c.subject.in_(_old)))


async def check(connection: Connection, limit: rules.Limit, of: str) -> None:
    """Raise RESOURCE_EXHAUSTED (LOGIN_THROTTLED) when no attempt is allowed now."""
    wait = await _WAIT.value(connection, **_parameters(limit, of))
    _refuse(wait or 0)


async def count(connection: Connection, limit: rules.Limit, of: str) -> bool:
    """Count an attempt; False, and it is not counted, when it is one more than the limit allows."""
    return bool(await _COUNT.value(connection, **_parameters(limit, of)))


async def spend(connection: Connection, limit: rules.Limit, of: str) -> None:
    """Count an attempt. Raises RESOURCE_EXHAUSTED (LOGIN_THROTTLED) when it is one too many."""
    if not await count(connection, limit, of):
        wait = await _WAIT.value(connection, **_parameters(limit, of))
        raise rules.throttled(wait or 0)


async def clear(tx: Connection, limit: rules.Limit, of: str) -> None:
    """Forget the attempts after one that succeeded.

    Raises as `check` does: of many attempts at the same time, one that failures have outrun is no
    success either. So guessing in parallel is worth no more than guessing in a row.
    """
    wait = await _CLEAR.value(tx, **_parameters(limit, of))
    _refuse(wait or 0)


async def forget(tx: Connection, subjects: list[bytes]) -> None:
    """Forget the attempts of these subjects (`rules.Limit.subject`)."""
    await _FORGET.run(tx, subjects=subjects)


async def forget_old(connection: Connection, age: timedelta) -> int:
    """Remove up to 1,000 counts that nothing was added to for so long; the number removed."""
    return await _FORGET_OLD.run(connection, age=age)


def _parameters(limit: rules.Limit, of: str) -> dict[str, Any]:
    return {"of_subject": limit.subject(of), "most": limit.most, "within": limit.within}


def _refuse(wait: float) -> None:
    if wait > 0:
        raise rules.throttled(wait)
