"""Logs: one JSON object a line (or readable text), each with the service and the request id.

Request bodies are never logged. Keys that could hold a secret or an address of a person are blanked
before anything is written, whatever the level.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import msgspec

from services.kit import call, lean

with lean.without("rich"):
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

# A key that contains one of these never shows its value.
SECRET_WORDS = ("password", "token", "secret", "authorization", "email", "phone", "address_line")
BLANK = "[hidden]"

_ENCODER = msgspec.json.Encoder(enc_hook=repr)
_least = logging.NOTSET


def configure(service: str, *, form: str = "json", level: str = "info") -> None:
    """Set up structlog, and send the standard library's records the same way, to stderr."""
    global _least  # noqa: PLW0603 - as structlog's own settings: one for the process
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _call,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide,
        _exception,
    ]
    if form == "json":
        last: list[Any] = [_json]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    _least = number = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # One system call for a line and its end; `print` makes two.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_strip, *last])
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.INFO), force=True)


def shows(level: int) -> bool:
    """Whether lines of this level are written."""
    return level >= _least


def add(processor: Processor) -> None:
    """Have every line of ours go through `processor` as well, before it is written."""
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[processor, *processors])


def logger(name: str) -> Any:
    """A logger whose lines carry `source=name`."""
    return structlog.get_logger(source=name)


def of_event_loop(_: object, context: dict[str, Any]) -> None:
    """Log what the event loop complains of; its own handler would quote exceptions.

    For `loop.set_exception_handler`.
    """
    logger("asyncio").error(context["message"], exc_info=context.get("exception"))


def _call(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    current = call.current_or_none()
    if current is not None:
        event.setdefault("request_id", current.request_id)
        event.setdefault("method", current.method)
    return event


def _hide(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key in event:
        if _is_secret(key):
            event[key] = BLANK
    return event


@functools.lru_cache(maxsize=1000)
def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in SECRET_WORDS)


def _json(_: WrappedLogger, __: str, event: EventDict) -> str:
    try:
        return _ENCODER.encode(event).decode()
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        # Half a surrogate pair, a key that is no text, a number past 64 bits.
        return json.dumps(event, default=repr, skipkeys=True)


def _exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Where an exception came from, without its text: Postgres, for one, quotes the row in it."""
    error = event.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = " from ".join(type(each).__qualname__ for each in _chain(error))
        event["trace"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
    return event


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _strip(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drop what the standard library's bridge adds for itself."""
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event
