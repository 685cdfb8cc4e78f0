"""Log lines: one JSON object each, to stderr. Keys, secrets and card numbers are never in them."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def configure(form: str = "json", level: str = "info") -> None:
    """Set the lines' form: `json`, or `pretty` for people."""
    last: Any = structlog.processors.JSONRenderer()
    if form == "pretty":
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if form == "json" else _unchanged,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # What libraries say would not be JSON; their errors reach us as exceptions.
    logging.disable(logging.WARNING)


def logger(name: str) -> Any:
    return structlog.get_logger(service="stripe-sandbox", source=name)


def _unchanged(_: Any, __: str, event: Any) -> Any:
    return event
