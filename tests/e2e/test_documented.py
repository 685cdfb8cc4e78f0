"""What of the running shop the access matrix does not hold against the OpenAPI document."""

from __future__ import annotations

from tests.documented import complaints, find, resolved
from tests.e2e.asks import REQUESTS, ask_rest
from tests.visitors import Shop, answered


async def test_a_stream_of_events(shop: Shop) -> None:
    operation = find("GET", f"/api/orders/{shop.admin.id}/watch/")
    assert operation is not None
    (media, described), *_ = resolved(operation.described["responses"]["200"])["content"].items()
    order = await REQUESTS["shop.order.v1.OrderService.WatchOrder"](shop, shop.admin)
    binding = ("get", "/api/orders/{id}/watch", "")
    answer = await ask_rest(shop.admin, binding, order, slash="/")
    assert answer.headers["content-type"] == media
    assert complaints(described["x-event"], answered(answer)) == []
