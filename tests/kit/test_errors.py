"""Errors: each comes with the status that the contract names for its reason, and fits the wire."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from services.kit import errors, failures
from services.kit.errors import FieldViolation, PreconditionViolation, ServiceError
from shop.errors.v1 import reason_pb2

PROTO = Path(__file__).parents[2] / "protos/shop/errors/v1/reason.proto"
# What peers accept of metadata, with the base64 that details travel in.
WIRE_BYTES = 8192


def documented() -> dict[str, tuple[str, bool, set[str]]]:
    """Per reason: status, whether RetryInfo comes along, the keys of its metadata."""
    found = {}
    for comment, name in re.findall(r"((?:  //.*\n)+)  REASON_(\w+) = \d+;", PROTO.read_text()):
        text = re.sub(r"\s*\n?  //\s*", " ", comment)
        status = re.search(r"Status: (\w+)\.", text)
        metadata = re.search(r"Metadata: (.*?)\. (?:RetryInfo\. )?Client:", text)
        if status and metadata:
            keys = (
                set()
                if metadata[1].startswith("none")
                else set(re.findall(r"(\w+)(?: \([^)]*\))?(?:, |$)", metadata[1]))
            )
            found[name] = status[1], "RetryInfo" in text, keys
    return found


EXAMPLES = [
    errors.invalid_field("name", "is empty"),
    errors.not_found("product", "id"),
    errors.already_exists(reason_pb2.REASON_SLUG_TAKEN, "slug", "taken"),
    errors.etag_mismatch("v2"),
    errors.unavailable("away"),
    errors.overloaded(),
    errors.internal(),
    failures.refusal(TimeoutError()),
    failures.refusal(asyncpg.QueryCanceledError()),
    failures.refusal(asyncpg.DeadlockDetectedError()),
    failures.refusal(asyncpg.SerializationError()),
    failures.refusal(asyncpg.LockNotAvailableError()),
    failures.refusal(ValueError("text of ours")),
]


def details_of(error: ServiceError) -> dict[str, object]:
    found = {}
    for packed in error.status().details:
        kind = packed.type_url.rpartition(".")[2]
        detail = getattr(error_details_pb2, kind)()
        assert packed.Unpack(detail)
        found[kind] = detail
    return found


class TestStatus:
    @pytest.mark.parametrize("number", range(len(EXAMPLES)))
    def test_each_reason_comes_with_what_its_comment_says(self, number: int) -> None:
        error = EXAMPLES[number]
        status, waits, keys = documented()[errors.name(error.reason)]
        assert error.code.name == status
        assert ("RetryInfo" in details_of(error)) == waits
        assert set(error.metadata) <= keys  # a dependency is named by the edge alone

    def test_the_reason_is_an_error_info_of_the_shop(self) -> None:
        info = details_of(errors.not_found("product", "7"))["ErrorInfo"]
        assert info == error_details_pb2.ErrorInfo(
            reason="RESOURCE_NOT_FOUND",
            domain="shop",
            metadata={"resource": "product", "id": "7"},
        )

    def test_fields_at_fault_are_a_bad_request(self) -> None:
        error = errors.invalid(FieldViolation("a", "is wrong"), FieldViolation("b", "too"))
        assert error.message == "a: is wrong (and 1 more)"
        found = details_of(error)["BadRequest"]
        assert isinstance(found, error_details_pb2.BadRequest)
        assert [(each.field, each.description) for each in found.field_violations] == [
            ("a", "is wrong"),
            ("b", "too"),
        ]

    def test_a_message_that_is_wrong_as_a_whole_has_no_field(self) -> None:
        assert errors.invalid_field("", "needs this or that").message == "needs this or that"

    def test_what_is_short_is_a_precondition_failure(self) -> None:
        error = ServiceError(
            StatusCode.FAILED_PRECONDITION,
            reason_pb2.REASON_OUT_OF_STOCK,
            "too few",
            preconditions=[PreconditionViolation("variant", "2 left")],
        )
        found = details_of(error)["PreconditionFailure"]
        assert isinstance(found, error_details_pb2.PreconditionFailure)
        assert [(each.type, each.subject, each.description) for each in found.violations] == [
            ("OUT_OF_STOCK", "variant", "2 left")
        ]

    def test_waiting_is_told_in_time(self) -> None:
        retry = details_of(errors.unavailable("away", seconds=2.5))["RetryInfo"]
        assert isinstance(retry, error_details_pb2.RetryInfo)
        assert retry.retry_delay.ToTimedelta() == timedelta(seconds=2.5)


class TestSize:
    @pytest.mark.parametrize("letter", ["x", "é", "漢", "\U0001f375", "\ud800", "\n"])
    def test_whatever_is_said_fits_into_metadata(self, letter: str) -> None:
        long = letter * 5000
        error = ServiceError(
            StatusCode.INVALID_ARGUMENT,
            reason_pb2.REASON_VALIDATION_FAILED,
            long,
            metadata={"field": long},
            violations=[FieldViolation(long, long)] * 100,
        )
        raw = error.status().SerializeToString()
        percent_encoded = 3 * len(error.message.encode())
        assert len(raw) * 4 / 3 + percent_encoded < WIRE_BYTES
        assert status_pb2.Status.FromString(raw).message == error.message

    def test_at_most_twenty_fields_are_named(self) -> None:
        error = errors.invalid(*(FieldViolation(f"f{n}", "is wrong") for n in range(100)))
        assert len(error.violations) == 20
        assert error.message.endswith("(and 99 more)")

    def test_one_long_field_is_still_named(self) -> None:
        assert len(errors.invalid_field("x" * 9000, "y" * 9000).violations) == 1


class TestRefusal:
    def test_the_unexpected_says_nothing(self) -> None:
        refusal = failures.refusal(ValueError("SELECT secret FROM users"))
        assert refusal.code == StatusCode.INTERNAL
        assert refusal.message == "Something went wrong on our side."

    def test_a_missing_file_is_not_the_database(self) -> None:
        assert failures.refusal(FileNotFoundError("x")).code == StatusCode.INTERNAL

    def test_a_wrong_argument_to_postgres_is_our_fault(self) -> None:
        assert failures.refusal(asyncpg.DataError("x")).code == StatusCode.INTERNAL
        assert failures.refusal(asyncpg.InterfaceError("x")).code == StatusCode.INTERNAL

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            (StatusCode.UNAVAILABLE, StatusCode.UNAVAILABLE),
            (StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE),
            (StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE),
            (StatusCode.NOT_FOUND, StatusCode.INTERNAL),
            (StatusCode.UNAUTHENTICATED, StatusCode.INTERNAL),
            (StatusCode.INTERNAL, StatusCode.INTERNAL),
        ],
    )
    def test_the_status_of_another_service_is_not_passed_on(
        self, theirs: StatusCode, ours: StatusCode
    ) -> None:
        error = grpc.aio.AioRpcError(
            theirs, grpc.aio.Metadata(), grpc.aio.Metadata(), details="theirs"
        )
        refusal = failures.refusal(error)
        assert refusal.code == ours
        assert "theirs" not in refusal.message
