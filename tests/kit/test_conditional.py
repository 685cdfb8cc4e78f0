"""Conditional calls at a service: who is told what, and what a change is compared with."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import DecodeError
from grpc import StatusCode
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.kit import errors, logs
from services.kit.etags import check_etag
from services.kit.methods import rendered
from tests import callers
from tests.kit.serving import Served, serving
from tests.kit.things import SERVICE, RenderedThing, Thing
from tests.running import refused

REST = (("x-envoy-original-path", "/api/things/1"),)
JSON = ("x-shop-json", "1")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def read(
    served: Served, *metadata: tuple[str, str], id: str = "1"
) -> tuple[Any, dict[str, str]]:
    """A read as the edge passes it on: the answer, and what is said about it."""
    return await heard(served.stub.GetCachedThing(Thing(id=id, etag="v3"), metadata=metadata))


async def heard(call: Any) -> tuple[Any, dict[str, str]]:
    """An answer, with the metadata before and behind it."""
    answer = await call
    return answer, {**dict(await call.initial_metadata()), **dict(await call.trailing_metadata())}


class TestReads:
    async def test_rest_clients_are_told_the_etag(self, served: Served) -> None:
        answer, told = await read(served, *REST)
        assert answer == Thing(id="1", etag="v3")
        assert told["etag"].startswith('W/"v3-')
        assert told["cache-control"].startswith("public, max-age=")
        assert "stale-while-revalidate=" in told["cache-control"]
        assert "authorization" in told["vary"]
        assert "x-http-code" not in told

    async def test_native_clients_are_not(self, served: Served) -> None:
        answer, told = await read(served, ("if-none-match", "*"))
        assert answer == Thing(id="1", etag="v3")
        assert told.keys().isdisjoint({"etag", "cache-control", "vary", "x-http-code"})

    async def test_the_etag_is_of_all_that_is_answered(self, served: Served) -> None:
        _, first = await read(served, *REST)
        _, again = await read(served, *REST)
        _, other = await read(served, *REST, id="2")
        assert first["etag"] == again["etag"] != other["etag"]

    async def test_serialized_answers_have_the_same(self, served: Served) -> None:
        _, built = await read(served, *REST)

        async def from_a_shelf(request: Any) -> Any:
            return rendered(Thing, RenderedThing.of(request))

        served.things.behaviour["GetCachedThing"] = from_a_shelf
        _, shelved = await read(served, *REST)
        assert built["etag"] == shelved["etag"]

    @pytest.mark.parametrize("form", ["{}", '"x", {}', '{},W/"y"', "*"])
    async def test_who_has_it_gets_nothing_but_304(self, served: Served, form: str) -> None:
        _, before = await read(served, *REST)
        for tag in (before["etag"], before["etag"].removeprefix("W/")):
            answer, told = await read(served, *REST, ("if-none-match", form.format(tag)))
            assert (answer, told["x-http-code"]) == (Thing(), "304")
            assert {name: told[name] for name in ("etag", "cache-control", "vary")} == {
                name: before[name] for name in ("etag", "cache-control", "vary")
            }

    @pytest.mark.parametrize("given", ['"v3"', '"other"', "v3", "", '"', 'W/"v3-'])
    async def test_who_has_another_gets_it_all(self, served: Served, given: str) -> None:
        answer, told = await read(served, *REST, ("if-none-match", given))
        assert answer == Thing(id="1", etag="v3")
        assert "x-http-code" not in told

    async def test_what_depends_on_a_token_is_for_no_cache(self, served: Served) -> None:
        token = callers.User("STAFF")()
        _, told = await read(served, *REST, *token)
        assert "cache-control" not in told  # the edge makes it no-store
        answer, told = await read(served, *REST, *token, ("if-none-match", told["etag"]))
        assert (answer, told["x-http-code"]) == (Thing(), "304")

    async def test_a_refusal_has_none(self, served: Served) -> None:
        async def refuse(_: Any) -> Any:
            raise errors.not_found("thing", "1")

        served.things.behaviour["GetCachedThing"] = refuse
        call = served.stub.GetCachedThing(Thing(), metadata=(*REST, ("if-none-match", "*")))
        assert await call.code() == StatusCode.NOT_FOUND
        assert "etag" not in dict(await call.initial_metadata())

    async def test_other_reads_know_nothing_of_it(self, served: Served) -> None:
        call = served.stub.GetThing(Thing(id="1"), metadata=(*REST, ("if-none-match", "*")))
        assert await call == Thing(id="1")
        assert "etag" not in dict(await call.initial_metadata())


class TestJson:
    """An edge that takes JSON gets it from the service, which may have it at hand."""

    @staticmethod
    async def ask(
        served: Served, thing: Any, *metadata: tuple[str, str]
    ) -> tuple[HttpBody, dict[str, str]]:
        """The same as `read`, by an edge that takes JSON."""
        method: Any = served.channel.unary_unary(
            f"/{SERVICE}/GetCachedThing",
            request_serializer=Thing.SerializeToString,
            response_deserializer=HttpBody.FromString,
        )
        return await heard(method(thing, metadata=(*REST, JSON, *metadata)))

    async def test_is_made_of_a_message(self, served: Served) -> None:
        thing = Thing(id="1", text='"é"', etag="v3")
        body, told = await self.ask(served, thing)
        assert body.content_type == "application/json"
        assert body.data == '{"id":"1","text":"\\"é\\"","etag":"v3"}'.encode()
        _, otherwise = await heard(served.stub.GetCachedThing(thing, metadata=REST))
        assert told == otherwise

    async def test_is_taken_where_it_is_at_hand(self, served: Served) -> None:
        async def from_a_shelf(request: Any) -> Any:
            return rendered(Thing, RenderedThing.of(request))

        served.things.behaviour["GetCachedThing"] = from_a_shelf
        body, _ = await self.ask(served, Thing(id="1"))
        assert body.data == b'{"id": "1", "at": "hand"}'

    async def test_is_empty_with_304(self, served: Served) -> None:
        _, told = await self.ask(served, Thing(id="1"))
        body, again = await self.ask(served, Thing(id="1"), ("if-none-match", told["etag"]))
        assert again["x-http-code"] == "304"
        assert (body.content_type, body.data) == ("application/json", b"")

    @pytest.mark.parametrize(("size", "is_kept"), [(59_000, True), (61_000, False)])
    async def test_the_edge_keeps_it_for_its_trailers_if_there_is_room(
        self, served: Served, size: int, is_kept: bool
    ) -> None:
        method: Any = served.channel.unary_unary(f"/{SERVICE}/GetCachedThing")
        call = method(Thing(text="x" * size).SerializeToString(), metadata=(*REST, JSON))
        await call
        assert ("etag" in dict(await call.trailing_metadata())) == is_kept
        assert ("etag" in dict(await call.initial_metadata())) == (not is_kept)

    async def test_is_for_nobody_who_came_natively(self, served: Served) -> None:
        answer = await served.stub.GetCachedThing(Thing(id="1"), metadata=(JSON,))
        assert answer == Thing(id="1")


class TestChanges:
    @pytest.fixture
    def third(self, served: Served) -> Served:
        """A thing whose version is 3."""

        async def change(request: Any) -> Any:
            check_etag(request.etag, {"version": 3})
            return request

        served.things.behaviour["TouchThing"] = change
        return served

    @staticmethod
    def touch(served: Served, given: str, etag: str = "") -> Any:
        metadata = (*callers.User()(), ("if-match", given))
        return served.stub.TouchThing(Thing(id="1", etag=etag), metadata=metadata)

    @pytest.mark.parametrize("given", ['"v3"', 'W/"v3"', "v3", ' "v3" ', 'W/"v3-9f2c"', "*"])
    async def test_happen_to_the_version_that_is_meant(self, third: Served, given: str) -> None:
        assert (await self.touch(third, given)).id == "1"
        assert (await self.touch(third, given, etag='"v3"' if given != "*" else "*")).id == "1"

    @pytest.mark.parametrize("given", ['"v2"', 'W/"v33"', '"v3x"', '""', '"v2-9f2c"'])
    async def test_do_not_happen_to_another(self, third: Served, given: str) -> None:
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH") as held:
            await self.touch(third, given)
        assert held[0].metadata == {"etag": "v3"}

    async def test_that_is_412_in_http(self, third: Served) -> None:
        call = self.touch(third, '"v2"')
        await call.code()
        assert dict(await call.trailing_metadata())["x-http-code"] == "412"
        call = third.stub.TouchThing(Thing(etag="v2"), metadata=callers.User()())
        await call.code()
        assert "x-http-code" not in dict(await call.trailing_metadata())

    async def test_that_are_said_to_be_of_two_versions_are_refused(self, third: Served) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await self.touch(third, '"v3"', etag="v2")
        assert held[0].fields.keys() == {"etag"}

    @pytest.mark.parametrize("given", ['"v3", "v4"', '"v3', 'v"3', "", "* *", "v3 v4"])
    async def test_need_one_etag(self, third: Served, given: str) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await self.touch(third, given)
        assert held[0].fields.keys() == {"if-match"}

    async def test_that_cannot_be_made_conditional_say_so(self, served: Served) -> None:
        metadata = (*callers.User()(), ("if-match", '"v3"'))
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await served.stub.PlainThing(Thing(), metadata=metadata)
        assert held[0].fields.keys() == {"if-match"}


class TestRecall:
    """What a service remembers is given to those without a token, before anything is asked."""

    @pytest.fixture
    async def served(self) -> AsyncIterator[Served]:
        async with serving(GetCachedThing=self.recall) as running:
            running.things.behaviour["GetCachedThing"] = self.handle
            yield running

    @staticmethod
    def recall(raw: bytes) -> RenderedThing | None:
        try:
            request = Thing.FromString(raw)
        except DecodeError:
            return None
        if request.id != "1":
            return None
        return RenderedThing.of(Thing(id="1", etag="v3", text="remembered"))

    @staticmethod
    async def handle(request: Any) -> Any:
        return Thing(id=request.id, etag="v3", text="looked up")

    @pytest.mark.parametrize(("id", "text"), [("1", "remembered"), ("2", "looked up")])
    async def test_it_is_answered_if_it_is_there(self, served: Served, id: str, text: str) -> None:
        answer, told = await heard(served.stub.GetCachedThing(Thing(id=id)))
        assert answer == Thing(id=id, etag="v3", text=text)
        assert "etag" not in told

    async def test_it_is_counted(self, served: Served) -> None:
        def calls() -> float:
            labels = {"method": f"/{SERVICE}/GetCachedThing", "code": "OK"}
            return REGISTRY.get_sample_value("shop_rpc_total", labels) or 0.0

        before = calls()
        await served.stub.GetCachedThing(Thing(id="1"))
        assert calls() == before + 1

    @pytest.mark.parametrize("level", ["debug", "info"])
    async def test_it_is_logged_like_any_other(
        self, served: Served, level: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "_least", logging.getLevelNamesMapping()[level.upper()])
        with capture_logs() as lines:
            await served.stub.GetCachedThing(Thing(id="1"))
        said = [line["code"] for line in lines if line["event"] == "call"]
        assert said == ["OK"] * (level == "debug")

    async def test_rest_clients_are_told_what_they_always_are(self, served: Served) -> None:
        remembered, told = await read(served, *REST)
        assert remembered.text == "remembered"
        assert told["etag"].startswith('W/"v3-')
        assert told["cache-control"].startswith("public")
        nothing, again = await read(served, *REST, ("if-none-match", told["etag"]))
        assert (nothing, again["x-http-code"]) == (Thing(), "304")
        body, _ = await TestJson.ask(served, Thing(id="1"))
        assert body.data == b'{"id": "1", "at": "hand"}'

    async def test_who_has_a_token_is_not_answered_from_memory(self, served: Served) -> None:
        answer, _ = await read(served, *callers.User()())
        assert answer.text == "looked up"

    async def test_a_bad_token_is_refused(self, served: Served) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"):
            await read(served, ("authorization", "Bearer forged"))

    async def test_rubbish_is_refused(self, served: Served) -> None:
        method: Any = served.channel.unary_unary(f"/{SERVICE}/GetCachedThing")
        with refused(StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"):
            await method(b"\xff\xff")

    async def test_only_what_is_the_same_for_everybody_is_remembered(self) -> None:
        with pytest.raises(RuntimeError, match="not the same for everybody"):
            async with serving(GetThing=self.recall):
                pass
