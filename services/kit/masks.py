"""Update masks (AIP-134): which fields of a request change, and to what."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.message import Message
from grpc import StatusCode

from services.kit.errors import FieldViolation, ServiceError
from shop.errors.v1 import reason_pb2


def changes(request: Any, settable: Collection[str]) -> dict[str, Any]:
    """The fields of `request` that are to be changed, with their new values as it holds them.

    Without `update_mask`: every settable field that the request carries. With one: the fields it
    names, where one that the request leaves out is cleared. `*`: all settable fields. Lists and
    maps are replaced whole. Raises INVALID_ARGUMENT (UNKNOWN_FIELD_IN_MASK) for a path that is not
    settable.
    """
    paths = list(dict.fromkeys(request.update_mask.paths))
    if paths == ["*"]:
        chosen = list(settable)
    elif paths:
        unknown = [path for path in paths if path not in settable]
        if unknown:
            raise _unknown(unknown, settable)
        chosen = paths
    else:
        chosen = [name for name in settable if _carries(request, name)]
    return {name: _value(request, name) for name in chosen}


def _carries(request: Message, name: str) -> bool:
    field = request.DESCRIPTOR.fields_by_name[name]
    if field.has_presence:
        return bool(request.HasField(name))
    return bool(getattr(request, name))


def _value(request: Message, name: str) -> Any:
    """The field's value; None for a message that is not set."""
    field = request.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None and field.has_presence and not request.HasField(name):
        return None
    return getattr(request, name)


def _unknown(paths: list[str], settable: Collection[str]) -> ServiceError:
    return ServiceError(
        StatusCode.INVALID_ARGUMENT,
        reason_pb2.REASON_UNKNOWN_FIELD_IN_MASK,
        f"update_mask names {paths[0][:64]!r}, which cannot be updated. "
        f"Fields that can be: {', '.join(sorted(settable))}.",
        metadata={"field": paths[0][:64]},
        violations=[
            FieldViolation("update_mask", f"{path[:64]!r} cannot be updated") for path in paths
        ],
    )
