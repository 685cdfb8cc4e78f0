"""Settings of a service from environment variables, each of which may be its own or shared by all.

The field `database_url` of the users service is read from, in this order,
`SHOP_USERS_DATABASE_URL`, `SHOP_USERS_DATABASE_URL_FILE` (the name of a file that holds the value),
`SHOP_DATABASE_URL` and `SHOP_DATABASE_URL_FILE`. What is missing or malformed is named, with the
variable to set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

LEAST_SECRET = 32


class SettingsError(Exception):
    """The environment does not make a runnable service; the text says which variable to set."""


@dataclass(frozen=True)
class Setting:
    """A field of settings: its kind, the rules of its value with a description, and its default."""

    kind: Any
    rules: Meta
    default: Any
    is_secret: bool

    @property
    def is_required(self) -> bool:
        """Whether it has to be told."""
        return self.default is MISSING

    @property
    def allowed(self) -> str:
        """Which values it takes."""
        kind, rules = self.kind, self.rules
        if isinstance(kind, UnionType):
            (kind,) = (one for one in get_args(kind) if one is not type(None))
        if get_origin(kind) is Literal:
            return " or ".join(f"`{value}`" for value in get_args(kind))
        words = {str: "text", int: "whole number", float: "number", Path: "path"}
        parts = ["*secret*" if self.is_secret else words.get(kind, "a name")]
        parts += [f"from {rules.ge}"] if rules.ge is not None else []
        parts += [f"above {rules.gt}"] if rules.gt is not None else []
        parts += [f"to {rules.le}"] if rules.le is not None else []
        parts += [f"at least {rules.min_length} characters"] if (rules.min_length or 0) > 1 else []
        return ", ".join(parts)

    def of(self, value: Any) -> Any:
        """What a text, or a value, says. Raises ValueError, which does not repeat it."""
        if self.kind in (Path, Path | None):  # msgspec knows no paths
            return Path(value)
        try:
            return msgspec.convert(value, Annotated[self.kind, self.rules], strict=False)
        except msgspec.ValidationError:
            raise ValueError(f"it has to be: {self.allowed}" if value else "it is empty") from None


def setting(default: Any = MISSING, *, secret: bool = False, **rules: Any) -> Any:
    """A field that can be told; without a default it has to be.

    `rules` are msgspec.Meta's: description, ge, gt, le, min_length, max_length. The value of one
    that is `secret` is never shown.
    """
    metadata = {"rules": Meta(**rules), "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What every service can be told; a subclass names the service and adds its own fields."""

    service: Literal["users", "catalog", "cart", "order", "payment"]
    env: Literal["development", "production"] = setting(
        "development", description="in production, what is only for tests is refused"
    )
    database_url: str = setting(
        description="postgresql://role:password@host:port/database", secret=True
    )
    direct_database_url: str = setting(
        "",
        description="the same without its pooler, where it is that of one in transaction mode",
        secret=True,
    )
    database_connections: int = setting(
        10, ge=1, le=200, description="most connections of this process"
    )
    listen: str = setting(description="host:port of the gRPC server; port 0 takes a free one")
    metrics_listen: str = setting("", description="host:port of the Prometheus page; empty: none")
    service_secret: str = setting(
        min_length=LEAST_SECRET,
        description="signs the credential that services show each other; several, separated by "
        "commas, while one is replaced",
        secret=True,
    )
    issuer: str = setting("shop", description="`iss` of access tokens")
    public_url: str = setting("http://127.0.0.1:8000", description="where clients reach the edge")
    log_format: Literal["json", "pretty"] = setting(
        "json", description="a line of JSON for each event, or lines for people"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", description="the least that is logged"
    )
    concurrent_rpcs: int = setting(256, ge=1, description="calls at once; more are refused at once")
    drain_seconds: float = setting(
        5.0, ge=0, description="time that calls in flight get at shutdown"
    )

    def service_secrets(self) -> list[str]:
        """The secrets of services: the first signs, all are taken."""
        return listed(self.service_secret)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with values beyond their rules: the name of a field, and why."""
        if any(len(secret) < LEAST_SECRET for secret in self.service_secrets()):
            why = f"each secret has to have at least {LEAST_SECRET} characters"
            yield "service_secret", why

    @classmethod
    def load(cls, **given: Any) -> Self:
        """The settings; `given` wins over the environment. Raises SettingsError."""
        settings_by_name = cls.described()
        own = f"SHOP_{settings_by_name['service'].default.upper()}_"
        values, problems = {}, []
        if unknown := given.keys() - settings_by_name.keys():
            raise TypeError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
        for name, described in settings_by_name.items():
            told = given[name] if name in given else _value(name, (own, "SHOP_"))
            try:
                if told is not None:
                    values[name] = described.of(told)
                elif described.is_required:
                    problems.append((name, "it is required"))
            except ValueError as error:
                problems.append((name, f"{error}"))
        # All mistakes are told at once. What is wrong by itself is not looked at together.
        blank = dict.fromkeys((name for name, _ in problems), "")
        settings = cls(**values | blank)
        problems += [(name, why) for name, why in settings.problems() if name not in blank]
        if not problems:
            return settings
        raise SettingsError("\n".join(_explained(own, *problem) for problem in problems))

    @classmethod
    def described(cls) -> dict[str, Setting]:
        """Its fields by name."""
        kinds = get_type_hints(cls)
        return {
            one.name: Setting(
                kinds[one.name],
                one.metadata.get("rules", Meta()),
                one.default,
                one.metadata.get("secret", False),
            )
            for one in fields(cls)
        }


def _value(field: str, prefixes: Sequence[str]) -> str | None:
    """What the first variable says that there is for a field."""
    for prefix in prefixes:
        name = prefix + field.upper()
        if name in os.environ:
            # Of a secret that was made from a file, as the file's content is.
            return os.environ[name].strip()
        if f"{name}_FILE" in os.environ:
            return _content(f"{name}_FILE")
    return None


def listed(value: str) -> list[str]:
    """What commas separate."""
    return [part.strip() for part in value.split(",")]


def _content(variable: str) -> str:
    path = os.environ[variable]
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{variable} names {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable} names {path}, which is not a text") from None


def _explained(own: str, field: str, why: str) -> str:
    name = field.upper()
    return f"set {own}{name} (or SHOP_{name}, or {own}{name}_FILE): {why}"


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8001` or `[::1]:8001` in its two parts. Raises SettingsError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
