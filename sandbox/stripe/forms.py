"""Form-encoded requests: `metadata[order_id]=7&expand[]=latest_charge` as nested values.

`Parameters` hands the values out typed, and refuses what nobody asked for, in Stripe's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from sandbox.stripe import errors

Form = dict[str, Any]

MAXIMUM_FIELDS = 1000
KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
PART = re.compile(r"\[([^\[\]]*)\]")


def decode(text: str) -> Form:
    """The nested form of a query string or body: `a[b]=` nests, and lists are `a[]=` or `a[0]=`.

    A list is a dict of its places, `{"0": …, "1": …}`, as metadata may have such keys as well.
    """
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=MAXIMUM_FIELDS, errors="strict"
        )
    except (ValueError, UnicodeDecodeError):
        raise errors.invalid("Invalid request: the parameters could not be read.") from None
    form: Form = {}
    for key, value in pairs:
        match = KEY.match(key)
        if match is None:
            raise errors.invalid(f"Invalid request: malformed parameter name {key[:100]!r}.")
        _put(form, [match[1], *PART.findall(match[2])], value, key)
    return form


def _put(form: Form, path: list[str], value: str, key: str) -> None:
    node = form
    for part in path[:-1]:
        child = node.setdefault(part or str(len(node)), {})
        if not isinstance(child, dict):
            raise errors.invalid("Invalid hash", key)
        node = child
    last = path[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise errors.invalid("Invalid string", key)
    node[last] = value


class Parameters:
    """The parameters of one request; each is taken once, and `finish` refuses the rest."""

    def __init__(self, form: Form, prefix: str = "") -> None:
        self._form = dict(form)
        self._prefix = prefix

    def finish(self) -> None:
        """Raise parameter_unknown for what was not taken."""
        if self._form:
            raise errors.unknown([self._name(name) for name in self._form])

    def has(self, name: str) -> bool:
        return name in self._form

    def text(self, name: str, *, most: int = 5000) -> str | None:
        """None when absent or empty: an empty value unsets."""
        value = self._form.pop(name, None)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise errors.invalid("Invalid string", self._name(name))
        if len(value) > most:
            message = f"Invalid string: must be at most {most} characters"
            raise errors.invalid(message, self._name(name), "parameter_invalid_string_blank")
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise errors.missing(self._name(name))
        return value

    def integer(self, name: str, *, least: int | None = None) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            message = f"Invalid integer: {value[:40]}"
            raise errors.invalid(message, self._name(name), "parameter_invalid_integer")
        number = int(value)
        if least is not None and number < least:
            message = f"This value must be greater than or equal to {least}."
            raise errors.invalid(message, self._name(name), "parameter_invalid_integer")
        return number

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise errors.invalid(f"Invalid boolean: {value[:40]}", self._name(name))
        return value == "true"

    def choice(self, name: str, options: Iterable[str]) -> str | None:
        value = self.text(name)
        allowed = list(options)
        if value is not None and value not in allowed:
            message = f"Invalid {self._name(name)}: must be one of {', '.join(allowed)}"
            raise errors.invalid(message, self._name(name))
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not re.match(r"^https?://[^\s/?#]+", value):
            raise errors.invalid("Not a valid URL", self._name(name), "url_invalid")
        return value

    def strings(self, name: str) -> list[str]:
        value = self._form.pop(name, "")
        if value == "":
            return []
        if not isinstance(value, dict) or not all(key.isdecimal() for key in value):
            raise errors.invalid("Invalid array", self._name(name))
        items = [value[key] for key in sorted(value, key=int)]
        if not all(isinstance(each, str) for each in items):
            raise errors.invalid("Invalid array", self._name(name))
        return items

    def nested(self, name: str) -> Parameters | None:
        """The parameters inside `name[…]`; None when there are none."""
        value = self._form.pop(name, None)
        if value is None or value == "":
            return None
        if not isinstance(value, dict):
            raise errors.invalid("Invalid hash", self._name(name))
        return Parameters(value, self._name(name))

    def tree(self, name: str) -> Form | None:
        """`name[…]` as it came, for what is stored without a look into it."""
        inner = self.nested(name)
        return None if inner is None else inner.rest()

    def rest_of(self, name: str) -> str | Form:
        """`name` as it came: a text, or what is nested in it."""
        value: str | Form = self._form.pop(name)
        return value

    def rest(self) -> Form:
        """Everything not yet taken."""
        form, self._form = self._form, {}
        return form

    def metadata(self, before: dict[str, str] | None = None) -> dict[str, str]:
        """`before` with the changes of `metadata[…]`: at most 50 keys of 40, values of 500."""
        value = self._form.pop("metadata", None)
        if value is None:
            return dict(before or {})
        if value == "":
            return {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise errors.invalid("Invalid hash", "metadata")
        merged = dict(before or {}) | value
        merged = {key: text for key, text in merged.items() if text != ""}
        if len(merged) > 50:
            raise errors.invalid("Metadata can have at most 50 keys.", "metadata")
        for key, text in merged.items():
            if len(key) > 40 or len(text) > 500:
                message = "Metadata keys have at most 40 characters, values at most 500."
                raise errors.invalid(message, f"metadata[{key[:40]}]")
        return merged

    def _name(self, name: str) -> str:
        return f"{self._prefix}[{name}]" if self._prefix else name
