"""Settings of a service from environment variables, each of which may be its own or shared by all.

The field `database_url` of the users service is read from, in this order,
`SHOP_USERS_DATABASE_URL`, `SHOP_USERS_DATABASE_URL_FILE` (the name of a file that holds the value),
`SHOP_DATABASE_URL` and `SHOP_DATABASE_URL_FILE`. What is missing or malformed is named, with the
variable to set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

LEAST_SECRET = 32


class SettingsError(Exception):
    """The environment does not make a runnable service; the text says which variable to set."""


class ServiceSettings(BaseModel):
    """What every service can be told; a subclass names the service and adds its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    service: Literal["users", "catalog", "cart", "order", "payment"]
    env: Literal["development", "production"] = Field(
        "development", description="in production, what is only for tests is refused"
    )
    database_url: SecretStr = Field(description="postgresql://role:password@host:port/database")
    direct_database_url: SecretStr = Field(
        SecretStr(""),
        description="the same without its pooler, where it is that of one in transaction mode",
    )
    database_connections: int = Field(
        10, ge=1, le=200, description="most connections of this process"
    )
    listen: str = Field(description="host:port of the gRPC server; port 0 takes a free one")
    metrics_listen: str = Field("", description="host:port of the Prometheus page; empty: none")
    service_secret: SecretStr = Field(
        min_length=LEAST_SECRET,
        description="signs the credential that services show each other; several, separated by "
        "commas, while one is replaced",
    )
    issuer: str = Field("shop", description="`iss` of access tokens")
    public_url: str = Field("http://127.0.0.1:8000", description="where clients reach the edge")
    log_format: Literal["json", "pretty"] = Field(
        "json", description="a line of JSON for each event, or lines for people"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least that is logged"
    )
    concurrent_rpcs: int = Field(256, ge=1, description="calls at once; more are refused at once")
    drain_seconds: float = Field(5.0, ge=0, description="time that calls in flight get at shutdown")

    @field_validator("service_secret")
    @classmethod
    def _each_is_long_enough(cls, value: SecretStr) -> SecretStr:
        if any(len(secret) < LEAST_SECRET for secret in _listed(value)):
            raise ValueError(f"each secret has to have at least {LEAST_SECRET} characters")
        return value

    def service_secrets(self) -> list[str]:
        """The secrets of services: the first signs, all are taken."""
        return _listed(self.service_secret)

    @classmethod
    def load(cls, **given: Any) -> Self:
        """The settings; `given` wins over the environment. Raises SettingsError."""
        own = f"SHOP_{cls.model_fields['service'].default.upper()}_"
        found = {name: _value(name, (own, "SHOP_")) for name in cls.model_fields.keys() - given}
        told = {name: value for name, value in found.items() if value is not None}
        try:
            return cls.model_validate(told | given)
        except ValidationError as error:
            raise SettingsError(_explain(error, own)) from None


def _value(field: str, prefixes: Sequence[str]) -> str | None:
    """What the first variable says that there is for a field."""
    for prefix in prefixes:
        name = prefix + field.upper()
        if name in os.environ:
            return os.environ[name]
        if f"{name}_FILE" in os.environ:
            return _content(f"{name}_FILE")
    return None


def _listed(value: SecretStr) -> list[str]:
    return [part.strip() for part in value.get_secret_value().split(",")]


def _content(variable: str) -> str:
    path = os.environ[variable]
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{variable} names {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable} names {path}, which is not a text") from None


def _explain(error: ValidationError, prefix: str) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        own, shared = f"{prefix}{name.upper()}", f"SHOP_{name.upper()}"
        lines.append(f"set {own} (or {shared}, or {own}_FILE): {problem['msg']}")
    return "\n".join(lines)


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8001` or `[::1]:8001` in its two parts. Raises SettingsError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
