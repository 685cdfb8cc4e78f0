"""Etags, identifiers, times: what is too small for a file of tests of its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from hypothesis import given, strategies as st

from services.kit import etags, ids, lean, times
from services.kit.errors import ServiceError


class TestEtags:
    @pytest.mark.parametrize("given_etag", ["", "*", "v3", '"v3"', 'W/"v3"'])
    def test_these_fit_the_row(self, given_etag: str) -> None:
        etags.check_etag(given_etag, {"version": 3})

    @pytest.mark.parametrize("given_etag", ["v2", "3", "v33", "W/", '"*"', "v3 "])
    def test_these_abort_and_tell_the_current_one(self, given_etag: str) -> None:
        with pytest.raises(ServiceError) as raised:
            etags.check_etag(given_etag, {"version": 3})
        assert raised.value.code == StatusCode.ABORTED
        assert raised.value.metadata == {"etag": "v3"}


class TestIds:
    def test_they_grow_with_time(self) -> None:
        made = [ids.uuid7() for _ in range(1000)]
        assert made == sorted(made)
        assert made[0].version == 7

    def test_what_is_no_id_is_nothings_id(self) -> None:
        with pytest.raises(ServiceError) as raised:
            ids.parse("no' id", "product")
        assert raised.value.code == StatusCode.NOT_FOUND
        assert raised.value.metadata == {"resource": "product", "id": "no' id"}

    @given(st.text())
    def test_any_text_is_an_id_or_not_found(self, text: str) -> None:
        try:
            ids.parse(text, "product")
        except ServiceError as error:
            assert error.code == StatusCode.NOT_FOUND
            error.status()

    def test_envoys_request_id_is_kept(self) -> None:
        assert ids.request_id("0192f0c0-0000-7000-8000-00000000000") == (
            "0192f0c0-0000-7000-8000-00000000000"
        )

    @pytest.mark.parametrize("odd", [None, "", "x" * 65, "line\nbreak", "\x7f", "übung"])
    def test_an_odd_request_id_is_replaced(self, odd: str | None) -> None:
        assert ids.request_id(odd) != odd
        assert len(ids.request_id(odd)) == 36


class TestTimes:
    @given(
        st.datetimes(
            datetime(1, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
            datetime(9999, 12, 31),  # noqa: DTZ001
            timezones=st.just(UTC),
        )
    )
    def test_they_are_exact_to_the_microsecond(self, moment: datetime) -> None:
        expected = Timestamp()
        expected.FromDatetime(moment)
        assert times.timestamp(moment) == expected

    def test_zones_do_not_matter(self) -> None:
        moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
        elsewhere = moment.astimezone(timezone(timedelta(hours=9)))
        assert times.timestamp(elsewhere) == times.timestamp(moment)


class TestLean:
    def test_what_is_left_out_can_be_imported_afterwards(self) -> None:
        absent = "wsgiref.validate"
        sys.modules.pop(absent, None)
        with lean.without(absent, "json"):
            importlib.import_module("json")  # it was there before
            with pytest.raises(ImportError):
                importlib.import_module(absent)
        importlib.import_module(absent)

    def test_services_load_nothing_that_only_draws(self) -> None:
        said = subprocess.run(
            [sys.executable, "-c", "import services.payment.__main__, sys; print(*sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert {"stripe", "httpx", "structlog"} <= set(said.stdout.split())
        assert {"rich", "click", "requests"}.isdisjoint(said.stdout.split())
