"""The conventions of the contract: each function yields what breaks one of them, as sentences."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

import grpc
from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2

from shop.options.v1 import access_pb2
from tools.contract import OURS, Contract, Field, Method, rules

Convention = Callable[[Contract], Iterator[str]]
LARGEST_PAGE = 1000
# Up to here, reasons are general: any method may answer them.
FIRST_SPECIFIC_REASON = 100
REASON = "shop.errors.v1.Reason"
STATUS_CODES = {code.name for code in grpc.StatusCode} - {"OK", "UNKNOWN"}


def every_method_says_who_may_call(contract: Contract) -> Iterator[str]:
    for method in contract.methods:
        if method.access == access_pb2.ACCESS_UNSPECIFIED:
            yield f"{method.name} has no access option"
        if method.ignores_credentials and method.access != access_pb2.ACCESS_PUBLIC:
            yield f"{method.name} ignores credentials, but is not public"
        if method.strictly_limited and method.access != access_pb2.ACCESS_PUBLIC:
            yield f"{method.name} is strictly limited, but is not public"
        reads = {verb for verb, _, _ in method.bindings()} == {"get"}
        if method.cacheable and not (reads and method.access == access_pb2.ACCESS_PUBLIC):
            yield f"{method.name} is cacheable, but no public read"


def services_are_either_public_or_internal(contract: Contract) -> Iterator[str]:
    """The edge routes whole services, so one internal method makes its service internal."""
    internal = {m.service for m in contract.methods if m.access == access_pb2.ACCESS_SERVICE}
    for method in contract.methods:
        if (method.service in internal) != (method.access == access_pb2.ACCESS_SERVICE):
            yield f"{method.name} is for clients, but other methods of its service are internal"
        if (method.service in internal) == any(method.bindings()):
            yield f"{method.name} has a REST path exactly if it must not"


def rest_paths_are_well_formed(contract: Contract) -> Iterator[str]:
    seen: dict[str, str] = {}
    for method in contract.methods:
        fields = {entry.name: entry for entry in contract.messages[method.request].field}
        for verb, path, body in method.bindings():
            if not re.fullmatch(r"(/(api|\.well-known))(/([a-z0-9.-]+|\{[a-z_]+\}))+", path):
                yield f"{method.name}: {path} is no plain path without a trailing slash"
            if bool(body) != (verb in {"post", "put", "patch"}):
                yield f"{method.name}: {verb.upper()} {path} and a body do not go together"
            for variable in re.findall(r"\{(\w+)\}", path):
                if variable not in fields or not is_required(fields[variable]):
                    yield f"{method.name}: {{{variable}}} of {path} is no REQUIRED request field"
            route = f"{verb.upper()} {re.sub(r'{.*?}', '*', path)}"
            if route in seen:
                yield f"{method.name} and {seen[route]} both answer {route}"
            seen[route] = method.name


def put_and_patch_come_together(contract: Contract) -> Iterator[str]:
    for method in contract.methods:
        paths = defaultdict(set)
        for verb, path, _ in method.bindings():
            paths[verb].add(path)
        if paths["put"] != paths["patch"]:
            yield f"{method.name} answers PUT or PATCH, but not both"


def every_request_field_is_bounded(contract: Contract) -> Iterator[str]:
    pending = list(contract.requests())
    seen = set(pending)
    while pending:
        name = pending.pop()
        for entry in contract.messages[name].field:
            problem = unbounded(contract.messages[name], entry)
            if problem:
                yield f"{name}.{entry.name} {problem}"
            target = entry.type_name.lstrip(".")
            if target in contract.messages and target not in seen:
                seen.add(target)
                pending.append(target)


def unbounded(message: descriptor_pb2.DescriptorProto, entry: Field) -> str | None:
    """What a field's rules leave open; None when nothing."""
    given = rules(entry)
    if entry.label != Field.LABEL_REPEATED:
        return open_value(entry, given)
    pair = next((t for t in message.nested_type if entry.type_name.endswith(f".{t.name}")), None)
    if pair is not None and pair.options.map_entry:
        if not given.map.HasField("max_pairs"):
            return "has no max_pairs"
        return open_value(pair.field[0], given.map.keys) or open_value(
            pair.field[1], given.map.values
        )
    if not given.repeated.HasField("max_items"):
        return "has no max_items"
    return open_value(entry, given.repeated.items)


def open_value(entry: Field, given: validate_pb2.FieldRules) -> str | None:
    """What the rules of a single value leave open; None when nothing."""
    kind = Field.Type.Name(entry.type).removeprefix("TYPE_").lower()
    if kind == "bool":
        return None
    if kind == "message":
        return open_message(entry.type_name.lstrip("."), given)
    stated = {rule.name for rule, _ in getattr(given, kind).ListFields()}
    if kind in {"string", "bytes"}:
        closed = stated & {"const", "in", "len", "max_len", "max_bytes", "uuid"}
    elif kind == "enum":
        closed = stated & {"const", "in", "defined_only"}
    else:
        closed = stated & {"const", "in"} or (stated & {"lt", "lte"} and stated & {"gt", "gte"})
    return None if closed else f"is a {kind} without bounds"


def open_message(name: str, given: validate_pb2.FieldRules) -> str | None:
    """What is left open of a message; None when nothing."""
    # Ours are looked into by themselves. A mask can name no more than the request has.
    if name.startswith(OURS) or name == "google.protobuf.FieldMask":
        return None
    if name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
        times = getattr(given, name.rsplit(".", 1)[1].lower())
        stated = {rule.name for rule, _ in times.ListFields()}
        return None if {"gte", "lte"} <= stated else f"is a {name} without gte and lte"
    # Other people's messages have no rules inside: the field has to look into them.
    return None if given.cel else f"is a {name} that no rule looks into"


def rules_of_one_id_are_the_same(contract: Contract) -> Iterator[str]:
    """Fields cannot share a rule on Google's messages, so its copies have to agree."""
    expressions = defaultdict(set)
    for message in contract.messages.values():
        stated = message.options.Extensions[validate_pb2.message].cel
        for rule in [*stated, *(rule for entry in message.field for rule in rules(entry).cel)]:
            expressions[rule.id].add((rule.message, rule.expression))
    for name, variants in expressions.items():
        if len(variants) > 1:
            yield f"there are {len(variants)} different rules of the id {name}"


def request_fields_say_whether_they_are_required(contract: Contract) -> Iterator[str]:
    for name in contract.requests():
        for entry in contract.messages[name].field:
            alternative = entry.HasField("oneof_index") and not entry.proto3_optional
            if not alternative and not behaviors(entry) & {
                field_behavior_pb2.REQUIRED,
                field_behavior_pb2.OPTIONAL,
            }:
                yield f"{name}.{entry.name} is neither REQUIRED nor OPTIONAL"


def lists_are_paged(contract: Contract) -> Iterator[str]:
    for method in named(contract, "List"):
        request = {entry.name: entry for entry in contract.messages[method.request].field}
        response = {entry.name: entry for entry in contract.messages[method.response].field}
        if "page_size" not in request or "page_token" not in request:
            yield f"{method.name} takes no page_size and page_token"
        else:
            size = rules(request["page_size"]).int32
            if (size.gte, size.lte) != (0, LARGEST_PAGE):
                yield f"{method.name} takes a page_size other than 0 to {LARGEST_PAGE}"
        if "next_page_token" not in response:
            yield f"{method.name} answers no next_page_token"
        plurals = [e.name for e in response.values() if e.label == Field.LABEL_REPEATED]
        paths = [path.replace("-", "_") for _, path, _ in method.bindings()]
        if len(plurals) != 1 or not all(
            {plurals[0], plurals[0].removesuffix("s")} & set(path.split("/")) for path in paths
        ):
            yield f"{method.name} answers {plurals}, which its path does not name"


def updates_take_a_mask_and_an_etag(contract: Contract) -> Iterator[str]:
    for method in named(contract, "Update"):
        variables = {
            name for _, path, _ in method.bindings() for name in re.findall(r"{(\w+)}", path)
        }
        fields = {entry.name: entry for entry in contract.messages[method.request].field}
        for needed in {"update_mask", "etag"} - set(fields):
            yield f"{method.name} takes no {needed}"
        for entry in fields.values():
            has_presence = entry.proto3_optional or entry.type == Field.TYPE_MESSAGE
            is_told_apart = has_presence or entry.label == Field.LABEL_REPEATED
            if not is_told_apart and entry.name not in variables | {"update_mask", "etag"}:
                yield f"{method.name} cannot tell whether {entry.name} was sent"


def mutable_resources_have_an_etag(contract: Contract) -> Iterator[str]:
    for method in named(contract, "Update", "Set"):
        fields = {entry.name for entry in contract.messages[method.response].field}
        for needed in {"etag", "update_time"} - fields:
            yield f"{method.response} has no {needed}"


def everything_is_commented(contract: Contract) -> Iterator[str]:
    for name, comment in contract.comments.items():
        if not comment:
            yield f"{name} has no comment"


def enums_begin_unspecified(contract: Contract) -> Iterator[str]:
    """Values are bare inside a message (AIP-126), and need their prefix outside."""
    for name, enum in contract.enums.items():
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
        nested = name.rpartition(".")[0] in contract.messages
        if enum.value[0].number != 0 or enum.value[0].name != f"{prefix}UNSPECIFIED":
            yield f"{name} does not begin with {prefix}UNSPECIFIED"
        for value in enum.value[1:]:
            if value.name.startswith(prefix) == nested:
                yield f"{name}.{value.name} {'repeats' if nested else 'lacks'} {prefix}"


def times_are_timestamps(contract: Contract) -> Iterator[str]:
    for name, entry in contract.fields():
        timestamp = entry.type_name == ".google.protobuf.Timestamp"
        if timestamp != entry.name.endswith("_time"):
            yield f"{name} is a Timestamp or ends in _time, but not both"


def nothing_is_a_float(contract: Contract) -> Iterator[str]:
    for name, entry in contract.fields():
        if entry.type in {Field.TYPE_FLOAT, Field.TYPE_DOUBLE}:
            yield f"{name} is a float"


def fields_are_snake_case(contract: Contract) -> Iterator[str]:
    for name, entry in contract.fields():
        if not re.fullmatch(r"[a-z]+[0-9]*(_[a-z0-9]+)*", entry.name):
            yield f"{name} is not snake_case"


def reasons_are_documented(contract: Contract) -> Iterator[str]:
    """Each says its status, metadata and advice; each specific one is answered by some method."""
    answered = {reason for method in contract.methods for reason in stated(contract, method)}
    known = {v.name.removeprefix("REASON_"): v.number for v in contract.enums[REASON].value[1:]}
    for reason, number in known.items():
        comment = contract.comments[f"{REASON}.REASON_{reason}"] or ""
        status = re.match(r"Status: ([A-Z_]+)\. ", comment)
        if status is None or status[1] not in STATUS_CODES:
            yield f"{reason} does not begin with its status"
        if "\n Metadata: " not in comment or "\n Client: " not in comment:
            yield f"{reason} does not state its metadata and what a client should do"
        if number >= FIRST_SPECIFIC_REASON and reason not in answered:
            yield f"{reason} is answered by no method"
    for reason in answered - known.keys():
        yield f"{reason} is stated by a method, but is no reason"


def stated(contract: Contract, method: Method) -> set[str]:
    """The reasons that the comment of a method names."""
    _, _, text = (contract.comments[method.name] or "").partition("Reasons: ")
    return set(re.findall(r"\b[A-Z][A-Z_]+\b", re.sub(r"\(.*?\)", "", text, flags=re.DOTALL)))


def named(contract: Contract, *verbs: str) -> Iterator[Method]:
    """The methods whose name begins with one of these verbs."""
    for method in contract.methods:
        if re.match(rf"({'|'.join(verbs)})[A-Z]", method.proto.name):
            yield method


def behaviors(entry: Field) -> set[int]:
    """The field behaviors (AIP-203) of a field."""
    return set(entry.options.Extensions[field_behavior_pb2.field_behavior])


def is_required(entry: Field) -> bool:
    """Whether a field is REQUIRED."""
    return field_behavior_pb2.REQUIRED in behaviors(entry)


ALL = [
    every_method_says_who_may_call,
    services_are_either_public_or_internal,
    rest_paths_are_well_formed,
    put_and_patch_come_together,
    every_request_field_is_bounded,
    rules_of_one_id_are_the_same,
    request_fields_say_whether_they_are_required,
    lists_are_paged,
    updates_take_a_mask_and_an_etag,
    mutable_resources_have_an_etag,
    everything_is_commented,
    enums_begin_unspecified,
    times_are_timestamps,
    nothing_is_a_float,
    fields_are_snake_case,
    reasons_are_documented,
]
