"""Rows of users as messages, and the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.type.postal_address_pb2 import PostalAddress

from services.kit.db import Row
from services.kit.etags import etag
from services.kit.times import timestamp
from services.users import tokens
from shop.users.v1 import session_pb2, users_pb2


def user(row: Row) -> users_pb2.User:
    """A user, as they and staff see them."""
    return users_pb2.User(
        id=str(row["id"]),
        email=row["email"],
        full_name=row["full_name"],
        phone=row["phone"],
        role=users_pb2.User.Role.Value(row["role"]),
        email_verified=row["email_verified"],
        disabled=row["disabled"],
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )


def address(row: Row) -> users_pb2.Address:
    """An address of a user."""
    return users_pb2.Address(
        id=str(row["id"]),
        user_id=str(row["user_id"]),
        postal_address=ParseDict(row["postal_address"], PostalAddress()),
        phone=row["phone"],
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )


def postal_address_column(postal_address: PostalAddress) -> dict[str, Any]:
    """An address as it is stored: proto3 JSON with the proto's field names."""
    stored: dict[str, Any] = MessageToDict(postal_address, preserving_proto_field_name=True)
    return stored


def session(row: Row) -> session_pb2.Session:
    """A live session, with the role that its user has now."""
    return session_pb2.Session(
        id=str(row["id"]),
        user_id=str(row["user_id"]),
        role=users_pb2.User.Role.Value(row["role"]),
        create_time=timestamp(row["create_time"]),
        expire_time=timestamp(row["expire_time"]),
    )


def grant(
    access_token: str, refresh_token: str, session: Row, user_row: Row
) -> users_pb2.TokenGrant:
    """What a client gets that signs in, or refreshes."""
    return users_pb2.TokenGrant(
        access_token=access_token,
        token_type="Bearer",  # noqa: S106 - the name of a kind of token
        expires_in=int(tokens.ACCESS_LIFE.total_seconds()),
        refresh_token=refresh_token,
        refresh_expire_time=timestamp(session["expire_time"]),
        user=user(user_row),
    )


def key_set(jwks: Iterable[Mapping[str, str]]) -> users_pb2.JsonWebKeySet:
    """Public keys."""
    return users_pb2.JsonWebKeySet(keys=[users_pb2.JsonWebKey(**jwk) for jwk in jwks])
