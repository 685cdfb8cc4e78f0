"""Whether traces are taken, and where the kit asks for them.

OpenTelemetry is imported only where its own variable says where traces go, and what would be put
around calls for it is put there when they are registered: without it nothing is loaded, and calls
run what they would run if there were no traces at all.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from services.kit import logs
from services.kit.methods import Layer
from services.kit.settings import SettingsError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracing:
    """No traces. `kit.traces` has the ones that are taken."""

    layers: tuple[Layer, ...] = ()
    """What goes around every method, outside of all other layers."""
    on_query: Callable[[Any], None] | None = None
    """What is told of each SQL statement (`asyncpg.connection.LoggedQuery`)."""

    def asking(self, path: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        """The method of another service, as it is called."""
        return ask

    def calling(self, name: str) -> AbstractContextManager[object]:
        """A call to somebody who is no service of ours, for the time of the block."""
        return nullcontext()

    def traceparent(self) -> str:
        """What is being done now, in the words of W3C Trace Context; "" is nothing."""
        return ""

    def delivering(
        self, topic: str, attempt: int, traceparent: str
    ) -> AbstractContextManager[object]:
        """The delivery of an outbox row that was written under `traceparent`."""
        return nullcontext()

    def end(self) -> None:
        """Send what has not been sent."""


_tracing = Tracing()


def current() -> Tracing:
    """The traces of this process."""
    return _tracing


def configure(service: str, environment: Mapping[str, str] = os.environ) -> Tracing:
    """Take traces of the process from now on, if the environment says where they go.

    For the start of a process, after its logs. Raises SettingsError when that cannot be done.
    """
    global _tracing  # noqa: PLW0603 - one for the process, like its logs and metrics
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(environment.get(name) for name in ENDPOINTS):
        return _tracing
    try:
        traces = importlib.import_module("services.kit.traces")
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error.name} is missing, which traces need: install requirements-tracing.txt, or "
            f"unset {' and '.join(ENDPOINTS)}"
        ) from None
    opened: Tracing = traces.open_traces(service)
    _tracing = opened
    logs.add(traces.log_ids)
    return opened
