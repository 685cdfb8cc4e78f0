"""What is asked of the order service in the name of who calls."""

from __future__ import annotations

from grpc.aio import AioRpcError

from services.kit import call, clients, errors
from shop.errors.v1 import reason_pb2
from shop.order.v1 import order_pb2, order_pb2_grpc


class Orders:
    """Orders, as the caller may see them."""

    def __init__(self, orders: order_pb2_grpc.OrderServiceStub) -> None:
        self._orders = orders

    async def visible(self, order_id: str) -> order_pb2.Order:
        """An order that the caller may see. Raises NOT_FOUND."""
        try:
            order: order_pb2.Order = await self._orders.GetOrder(
                order_pb2.GetOrderRequest(id=order_id), metadata=clients.on_behalf_of_caller()
            )
        except AioRpcError as error:
            refusal = clients.refusal(error)
            if refusal is not None and refusal.reason == reason_pb2.REASON_RESOURCE_NOT_FOUND:
                raise errors.not_found("order", order_id) from None
            raise
        return order

    async def of_caller(self, order_id: str) -> order_pb2.Order:
        """An order of the caller's own. Raises NOT_FOUND, to staff too."""
        order = await self.visible(order_id)
        if order.user_id != str(call.user_id()):
            raise errors.not_found("order", order_id)
        return order
