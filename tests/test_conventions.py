"""The contract keeps its conventions, its rules compile, and the checks of them can fail."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import protovalidate
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests import conventions
from tools import contract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.message import Message

GENERATED = contract.DESCRIPTORS.parent
MODULES = sorted(
    ".".join(path.relative_to(GENERATED).with_suffix("").parts)
    for path in GENERATED.rglob("*_pb2*.py")
)
OURS = contract.load(contract.DESCRIPTORS.read_bytes())

# What bad_contract.proto does wrong, and what has to be said about it.
COMPLAINTS = [
    (conventions.every_method_says_who_may_call, "BadService.NoAccess has no access option"),
    (conventions.every_method_says_who_may_call, "OnlyPut ignores credentials, but is not public"),
    (conventions.every_method_says_who_may_call, "OnlyPut is strictly limited, but is not public"),
    (conventions.every_method_says_who_may_call, "OnlyPut is cacheable, but no public read"),
    (conventions.services_are_either_public_or_internal, "BadService.Slash is for clients"),
    (conventions.services_are_either_public_or_internal, "BadService.Internal has a REST path"),
    (conventions.rest_paths_are_well_formed, "/api/things/ is no plain path"),
    (conventions.rest_paths_are_well_formed, "{name} of /api/things/{name} is no REQUIRED"),
    (conventions.rest_paths_are_well_formed, "PATCH /api/things/{id} and a body do not go"),
    (conventions.rest_paths_are_well_formed, "both answer GET /api/other"),
    (conventions.put_and_patch_come_together, "BadService.OnlyPut answers PUT or PATCH"),
    (conventions.every_request_field_is_bounded, "Bounds.text is a string without bounds"),
    (conventions.every_request_field_is_bounded, "Bounds.low is a int32 without bounds"),
    (conventions.every_request_field_is_bounded, "Bounds.list has no max_items"),
    (conventions.every_request_field_is_bounded, "Bounds.items is a string without bounds"),
    (conventions.every_request_field_is_bounded, "Bounds.pairs is a string without bounds"),
    (conventions.every_request_field_is_bounded, "Bounds.mood is a enum without bounds"),
    (conventions.every_request_field_is_bounded, "Bounds.data is a bytes without bounds"),
    (conventions.every_request_field_is_bounded, "Bounds.since is a google.protobuf.Timestamp"),
    (conventions.every_request_field_is_bounded, "Bounds.price is a google.type.Money that no"),
    (conventions.every_request_field_is_bounded, "Inner.deep is a string without bounds"),
    (conventions.rules_of_one_id_are_the_same, "2 different rules of the id money"),
    (conventions.request_fields_say_whether_they_are_required, "UpdateThingRequest.name is neith"),
    (conventions.lists_are_paged, "ListAll takes no page_size"),
    (conventions.lists_are_paged, "ListThings takes a page_size other than 0 to 1000"),
    (conventions.lists_are_paged, "ListThings answers no next_page_token"),
    (conventions.lists_are_paged, "ListThings answers ['things'], which its path does not name"),
    (conventions.updates_take_a_mask_and_an_etag, "UpdateThing takes no etag"),
    (conventions.updates_take_a_mask_and_an_etag, "cannot tell whether name was sent"),
    (conventions.mutable_resources_have_an_etag, "Thing has no etag"),
    (conventions.everything_is_commented, "shop.bad.v1.Inner.Kind.NOTHING has no comment"),
    (conventions.everything_is_commented, "shop.bad.v1.BadService.Slash has no comment"),
    (conventions.enums_begin_unspecified, "Inner.Kind does not begin with KIND_UNSPECIFIED"),
    (conventions.enums_begin_unspecified, "Inner.Kind.KIND_SOME repeats KIND_"),
    (conventions.enums_begin_unspecified, "Mood.GOOD lacks MOOD_"),
    (conventions.times_are_timestamps, "Bounds.since is a Timestamp or ends in _time"),
    (conventions.times_are_timestamps, "Inner.changed_time is a Timestamp or ends in _time"),
    (conventions.nothing_is_a_float, "Inner.ratio is a float"),
    (conventions.fields_are_snake_case, "Inner.lastTime is not snake_case"),
    (conventions.reasons_are_documented, "NO_SUCH_REASON is stated by a method"),
    (conventions.reasons_are_documented, "EMAIL_TAKEN is answered by no method"),
    (conventions.reasons_are_documented, "BARE does not begin with its status"),
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> contract.Contract:
    """A contract that breaks every convention, with the reasons of the real one and a bare one."""
    target: Path = tmp_path_factory.mktemp("contract") / "bad.binpb"
    includes = ["tests", "protos", "third_party/googleapis", "third_party/protovalidate"]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            *(f"-I{folder}" for folder in includes),
            *("--include_source_info", f"--descriptor_set_out={target}", "bad_contract.proto"),
        ],
        cwd=contract.ROOT,
        check=True,
    )
    found = contract.load(target.read_bytes())
    reasons = descriptor_pb2.EnumDescriptorProto()
    reasons.CopyFrom(OURS.enums[conventions.REASON])
    reasons.value.add(name="REASON_BARE", number=999)
    found.enums[conventions.REASON] = reasons
    named = {name: text for name, text in OURS.comments.items() if conventions.REASON in name}
    found.comments |= named | {f"{conventions.REASON}.REASON_BARE": "Why not."}
    return found


def messages(names: Iterator[str]) -> list[Message]:
    """An empty message of each of these types."""
    for module in MODULES:
        importlib.import_module(module)
    pool = descriptor_pool.Default()
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(name))() for name in names]


@pytest.mark.parametrize("convention", conventions.ALL, ids=lambda check: check.__name__)
def test_the_contract_keeps_its_conventions(convention: conventions.Convention) -> None:
    assert list(convention(OURS)) == []


@pytest.mark.parametrize(("convention", "complaint"), COMPLAINTS)
def test_breaking_a_convention_is_noticed(
    bad: contract.Contract, convention: conventions.Convention, complaint: str
) -> None:
    assert any(complaint in found for found in convention(bad)), list(convention(bad))


def test_every_convention_is_shown_to_be_able_to_fail() -> None:
    assert {convention for convention, _ in COMPLAINTS} == set(conventions.ALL)


def test_the_contract_is_not_empty() -> None:
    services = {method.service.rpartition(".")[2] for method in OURS.methods}
    assert {"UserService", "CatalogService", "CartService", "OrderService"} <= services
    assert len(OURS.methods) > 50


@pytest.mark.parametrize("module", MODULES)
def test_every_generated_module_can_be_imported(module: str) -> None:
    importlib.import_module(module)


def test_every_validation_rule_compiles_and_runs() -> None:
    # A rule that does not compile raises CompilationError, one that cannot run EvaluationError.
    for message in messages(iter(OURS.messages)):
        protovalidate.collect_violations(message)
        for field in message.DESCRIPTOR.fields:
            if field.message_type is not None and not field.is_repeated:
                getattr(message, field.name).SetInParent()
                protovalidate.collect_violations(message)


@pytest.mark.parametrize("name", sorted(OURS.requests()))
def test_an_empty_request_lacks_what_is_required(name: str) -> None:
    required = {
        entry.name
        for entry in OURS.messages[name].field
        # Zero is a number like others: where it will not do, the bounds say so.
        if conventions.is_required(entry) and entry.type != contract.Field.TYPE_INT32
    }
    [request] = messages(iter([name]))
    complaints = {
        element.field_name
        for violation in protovalidate.collect_violations(request)
        for element in (violation.proto.field.elements if violation.proto.field else ())
    }
    assert required <= complaints


def test_the_descriptor_set_holds_what_envoy_needs_to_print_errors() -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(contract.DESCRIPTORS.read_bytes())
    assert "google/rpc/error_details.proto" in {file.name for file in files.file}
