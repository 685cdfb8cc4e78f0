"""The statements on what the payment service has told. The order's row is locked before."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.kit.db import Connection, Row, Statement
from services.order.tables import settlements
from shop.order.v1.settlement_pb2 import MarkPaidResponse

_KEY = {
    "order_id": sa.bindparam("of_order", type_=sa.Uuid),
    "payment_id": sa.bindparam("of_payment", type_=sa.Uuid),
}
_THIS = sa.and_(*(settlements.c[name] == value for name, value in _KEY.items()))

# An update that changes nothing, so that the row is returned whether it was there or not.
_OPEN = Statement(
    insert(settlements)
    .values(_KEY)
    .on_conflict_do_update(index_elements=list(_KEY), set_={"order_id": settlements.c.order_id})
    .returning(settlements)
)
_WRITE = Statement(
    sa.update(settlements)
    .where(_THIS)
    .values(
        outcome=sa.bindparam("new_outcome", type_=sa.SmallInteger),
        failed=sa.bindparam("new_failed", type_=sa.Boolean),
        refunded=sa.bindparam("new_refunded", type_=sa.BigInteger),
    )
)


async def open(tx: Connection, order_id: UUID, payment_id: UUID) -> Row:  # noqa: A001
    """What is known of a payment of a locked order; nothing yet, the first time."""
    return await _OPEN.one(tx, of_order=order_id, of_payment=payment_id)


async def write(
    tx: Connection,
    settlement: Row,
    *,
    outcome: MarkPaidResponse.Outcome.ValueType | None = None,
    failed: bool | None = None,
    refunded: int | None = None,
) -> None:
    """Keep what was told; what is not given stays."""
    await _WRITE.run(
        tx,
        of_order=settlement["order_id"],
        of_payment=settlement["payment_id"],
        new_outcome=settlement["outcome"] if outcome is None else outcome,
        new_failed=settlement["failed"] if failed is None else failed,
        new_refunded=settlement["refunded"] if refunded is None else refunded,
    )
