"""ErasureService, and its statements: what people wrote at payments goes, what was paid stays."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from google.protobuf.empty_pb2 import Empty

from services.kit import idempotency
from services.kit.db import Database, Statement
from services.payment.tables import metadata, payments, refunds
from shop.payment.v1 import erasure_pb2, erasure_pb2_grpc

KEYS = idempotency.Keys(metadata)

_USER = sa.bindparam("of_user", type_=sa.Uuid)
# A payment under way needs to know where the customer comes back to; it forgets that at its end.
_EMPTY_PAYMENTS = Statement(
    sa.update(payments)
    .where(payments.c.user_id == _USER, payments.c.idempotency_key.is_not(None))
    .values(idempotency_key=None, fingerprint=None)
)
_EMPTY_REFUNDS = Statement(
    sa.update(refunds)
    .where(refunds.c.payment_id == payments.c.id, payments.c.user_id == _USER, refunds.c.note != "")
    .values(note="")
)


class ErasureService(erasure_pb2_grpc.ErasureServiceServicer):
    """Erases what payments hold of a person."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def EraseUser(self, request: erasure_pb2.EraseUserRequest, context: Any) -> Empty:
        user_id = UUID(request.user_id)
        async with self._db.transaction(keyed=False) as tx:
            await _EMPTY_PAYMENTS.run(tx, of_user=user_id)
            await _EMPTY_REFUNDS.run(tx, of_user=user_id)
            await KEYS.forget_user(tx, user_id)
        return Empty()
