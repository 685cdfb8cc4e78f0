"""ErasureService: one method an RPC."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.kit.db import Database
from services.order import erasure_store
from shop.order.v1 import erasure_pb2, erasure_pb2_grpc


class ErasureService(erasure_pb2_grpc.ErasureServiceServicer):
    """Erases what orders hold of a person."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def EraseUser(self, request: erasure_pb2.EraseUserRequest, context: Any) -> Empty:
        user_id = UUID(request.user_id)
        # Committed first: an order that is written while the others are emptied will see it.
        async with self._db.transaction(keyed=False) as tx:
            await erasure_store.remember(tx, user_id)
        async with self._db.transaction(keyed=False) as tx:
            await erasure_store.erase(tx, user_id)
        return Empty()
