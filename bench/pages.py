"""Pages of a list, one after another, as a client that follows the links would ask for them."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import Any

PAGE = 20
# So many different pages are asked for in turn.
PAGES = 30


def walk(address: str) -> list[tuple[str, str]]:
    """The paths of the first pages of products by name, each with the id of its last product.

    The shop and the FastAPI peer answer a token, the DRF peer a link.
    """
    path = f"/api/products/?page_size={PAGE}&order_by=name"
    found = []
    for _ in range(PAGES):
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            page: dict[str, Any] = json.load(answer)
        products = page["products"] if "products" in page else page["results"]
        found.append((path, products[-1]["id"]))
        if page.get("next_page_token"):
            token = urllib.parse.quote(page["next_page_token"])
            path = f"/api/products/?page_size={PAGE}&order_by=name&page_token={token}"
        elif page.get("next"):
            path = page["next"].partition(address)[2]
        else:
            break
    return found
