"""The pages beside the API: the landing page, the documentation, and what health checks see."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from cli import web
from cli.topology import SERVICES
from tests.documented import PATH as OPENAPI
from tests.edge.conftest import Shop, running
from tests.edge.refused import assert_refused


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """An edge with pages, behind which payment is not there."""
    folder = tmp_path_factory.mktemp("web")
    web.build(folder / "pages", {})
    started = tuple(name for name in SERVICES if name != "payment")
    async with running(folder, start=started, web=folder / "pages") as shop:
        yield shop


class TestPages:
    @pytest.mark.parametrize("page", web.pages(), ids=lambda page: page.path)
    async def test_are_served_as_they_are(self, shop: Shop, page: web.Page) -> None:
        answer = await shop.rest("GET", page.path)
        assert answer.status_code == httpx.codes.OK
        assert answer.headers["content-type"] == page.media
        assert shop.edge.web is not None
        assert answer.content == (shop.edge.web / page.file).read_bytes()
        assert answer.content
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        head = await shop.rest("HEAD", page.path)
        assert (head.status_code, head.content) == (httpx.codes.OK, b"")

    @pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE"])
    async def test_are_only_read(self, shop: Shop, verb: str) -> None:
        assert_refused(await shop.rest(verb, "/docs/"), 404, 5, "ROUTE_NOT_FOUND")

    @pytest.mark.parametrize(
        "path", ["/docs/../secrets", "/assets/", "/protos/shop", "/docs/%2e%2e/index.html", "/web"]
    )
    async def test_are_all_that_is_served(self, shop: Shop, path: str) -> None:
        assert_refused(await shop.rest("GET", path), 404, 5, "ROUTE_NOT_FOUND")

    async def test_hold_the_contract_as_it_is(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/openapi.yaml")
        assert answer.content == OPENAPI.read_bytes()

    @pytest.mark.parametrize("path", ["/", "/docs", "/docs/"])
    async def test_link_to_what_is_there(self, shop: Shop, path: str) -> None:
        page = (await shop.rest("GET", path)).text
        links = set(re.findall(r'(?:href|src)="(/[^"#]*)"', page))
        assert len(links) > 3
        for link in links:
            answer = await shop.rest("GET", link)
            assert answer.status_code == httpx.codes.OK, link

    async def test_ask_nobody_else_and_run_nothing_inline(self, shop: Shop) -> None:
        for path in ("/", "/docs/"):
            page = (await shop.rest("GET", path)).text
            assert re.findall(r'(?:src|href)="(?!/|#)', page) == []
            assert re.findall(r"<script(?![^>]*src)|<style|\son\w+=", page) == []

    async def test_that_last_have_the_version_in_their_address(self, shop: Shop) -> None:
        for page in web.pages():
            kept = (await shop.rest("GET", page.path)).headers["cache-control"]
            assert ("immutable" in kept) == bool(re.search(r"-\d+\.\d+\.\d+/", page.path))

    async def test_of_the_api_are_not_hidden_by_them(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/api/products/")
        assert answer.headers["content-type"] == "application/json"
        assert "'self'" not in answer.headers["content-security-policy"]


class TestHealth:
    async def test_the_edge_serves(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/healthz")
        assert answer.json() == {"status": "SERVING"}
        assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("service", SERVICES)
    async def test_a_service_serves_when_it_is_there(self, shop: Shop, service: str) -> None:
        answer = await shop.rest("GET", f"/healthz/{service}")
        if service == "payment":
            assert_refused(answer, 503, 14, "DEPENDENCY_UNAVAILABLE")
        else:
            assert answer.json() == {"status": "SERVING"}

    async def test_of_what_is_no_service_nothing_is_known(self, shop: Shop) -> None:
        assert_refused(await shop.rest("GET", "/healthz/nothing"), 404, 5, "ROUTE_NOT_FOUND")


def test_the_landing_page_names_the_source_it_is_told(tmp_path: Path) -> None:
    web.build(tmp_path / "pages", {web.SOURCE_URL: "https://code.example/shop?a&b"})
    page = (tmp_path / "pages" / "index.html").read_text()
    assert 'href="https://code.example/shop?a&amp;b"' in page
    assert "/source/README.md" not in page


def test_no_address_is_given_twice() -> None:
    paths = [page.path for page in web.pages()]
    assert len(paths) == len(set(paths))
    assert {"/", "/docs/", "/docs", "/openapi.yaml"} <= set(paths)
