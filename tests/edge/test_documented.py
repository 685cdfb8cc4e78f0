"""Envoy, as it runs, answers the addresses of the OpenAPI document and no other verb of them."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.documented import VERBS, document, operations
from tests.edge.conftest import Shop
from tests.edge.refused import assert_refused

PATHS = [path for path in document()["paths"] if not path.startswith("/.well-known/")]


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_takes_the_verbs_that_it_is_documented_with(shop: Shop, path: str) -> None:
    item = document()["paths"][path]
    example = re.sub(r"\{(\w+)\}", r"\1-7", path)
    for verb in VERBS:
        body = "" if verb in ("get", "delete") else "{}"
        answer = await shop.rest(verb.upper(), example, content=body, headers=shop.signed_in)
        if verb in item:
            assert answer.status_code == httpx.codes.OK, answer.text
            service, _, method = item[verb]["x-rpc"].rpartition(".")
            assert shop.backends[service.split(".")[1]].last.path == f"/{service}/{method}"
        else:
            assert_refused(answer, 405, 5, "ROUTE_NOT_FOUND")
            allowed = answer.headers["allow"].split(", ")
            assert allowed == sorted(known.upper() for known in item)


async def test_a_token_is_needed_where_the_document_says_so(shop: Shop) -> None:
    for operation in operations().values():
        if operation.path in PATHS:
            example = re.sub(r"\{(\w+)\}", r"\1-7", operation.path)
            body = "" if operation.verb in ("get", "delete") else "{}"
            answer = await shop.rest(operation.verb.upper(), example, content=body)
            allowed = answer.status_code != httpx.codes.UNAUTHORIZED
            security = operation.described["security"]
            assert allowed == (not security or {} in security), operation
