"""The pages that the edge serves beside the API: a landing page and the documentation.

`build` puts them into one folder, out of web/, the contract, and Swagger UI, which comes as a
package. `shop up` does so at each start; elsewhere, `python -m cli.web FOLDER` makes the folder
that Envoy is given (`cli.edge.Edge.web`). Envoy reads it when it starts.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jinja2
from swagger_ui_bundle import swagger_ui_path

from cli.topology import SERVICES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "web"
# Names the address of the source code that the landing page links to.
SOURCE_URL = "SHOP_SOURCE_URL"
_DOES = {
    "users": "accounts, addresses, signing in",
    "catalog": "products, categories, stock, search",
    "cart": "carts of customers and guests",
    "order": "orders, shipping and tax rates",
    "payment": "card payments and refunds, through Stripe",
}
_PROTOS = {
    "users": "protos/shop/users/v1/users.proto",
    "catalog": "protos/shop/catalog/v1/catalog.proto",
    "cart": "protos/shop/cart/v1/cart.proto",
    "order": "protos/shop/order/v1/order.proto",
    "rates": "protos/shop/order/v1/rate.proto",
    "payment": "protos/shop/payment/v1/payment.proto",
    "error reasons": "protos/shop/errors/v1/reason.proto",
}
# The rest of what they need to be compiled.
_IMPORTED = ("protos/shop/options/v1/access.proto",)
_SWAGGER_UI = ("swagger-ui-bundle.js", "swagger-ui.css")
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
    ".binpb": "application/octet-stream",
}
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """Something that the edge serves: its address, and its file in the folder."""

    path: str
    file: str
    media: str
    lasting: bool
    """Whether it is another one only at another address."""


def pages() -> list[Page]:
    """All of them; the folder need not be there."""
    return [
        Page(
            path=path,
            file=name,
            media=_MEDIA.get(Path(name).suffix, _TEXT),
            lasting=swagger_ui_path.name in name,
        )
        for name in ("index.html", *_copied())
        for path in _addresses(name)
    ]


def _addresses(name: str) -> list[str]:
    """Where a file is found: a page with and without the slash, as all of the API."""
    path = f"/{name.removesuffix('index.html')}"
    return list(dict.fromkeys((path, path.rstrip("/") or "/")))


def build(folder: Path, environment: Mapping[str, str]) -> None:
    """Make the folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, original in _copied().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, target)
    (folder / "index.html").write_text(_landing_page(environment))


def _copied() -> dict[str, Path]:
    """What the folder holds besides the landing page, and what it is a copy of."""
    ours = {
        str(path.relative_to(SOURCES)): path
        for part in ("assets", "docs")
        for path in sorted((SOURCES / part).iterdir())
    }
    swagger_ui = f"docs/{swagger_ui_path.name}"
    theirs = {f"{swagger_ui}/{name}": Path(str(swagger_ui_path / name)) for name in _SWAGGER_UI}
    licences = {
        f"{swagger_ui}/{path.name}": path for path in sorted((SOURCES / "swagger-ui").iterdir())
    }
    protos = {name: ROOT / name for name in (*_PROTOS.values(), *_IMPORTED)}
    return {
        "openapi.yaml": ROOT / "generated" / "openapi.yaml",
        **ours,
        **theirs,
        **licences,
        **protos,
        "protos/shop.binpb": ROOT / "generated" / "shop.binpb",
        "source/README.md": ROOT / "README.md",
        "source/DECISIONS.md": ROOT / "DECISIONS.md",
    }


def _landing_page(environment: Mapping[str, str]) -> str:
    environs = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environs.from_string((SOURCES / "index.html.j2").read_text()).render(
        services={name: _DOES[name] for name in SERVICES},
        protos=_PROTOS,
        source=environment.get(SOURCE_URL, ""),
        version=metadata.version("shop"),
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute(), os.environ)
