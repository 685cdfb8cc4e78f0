"""A service process from its first line to its last: settings, logs, database, server."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import TypeVar

import uvloop
from sqlalchemy import MetaData

from services.kit import lean, logs, metrics, tracing
from services.kit.db import Database
from services.kit.server import Server
from services.kit.settings import ServiceSettings, SettingsError

# New objects before the collector looks at them, and how often it looks at older ones.
GARBAGE = (10_000, 20, 20)

Settings = TypeVar("Settings", bound=ServiceSettings)


def run(
    kind: type[Settings], metadata: MetaData, build: Callable[[Settings, Database], Server]
) -> None:
    """Serve until SIGTERM: what every `__main__` does.

    `metadata` holds the service's tables; `build` puts the service together. Settings that do not
    make a service end the process with a text for people.
    """

    async def serve(settings: Settings) -> None:
        asyncio.get_running_loop().set_exception_handler(logs.of_event_loop)
        database = await Database.open(
            settings.database_url,
            metadata,
            name=f"shop {settings.service}",
            connections=settings.database_connections,
            direct_url=settings.direct_database_url,
            on_query=tracing.current().on_query,
        )
        try:
            server = build(settings, database)
            # What the start has made stays; and calls leave few cycles behind. Without this the
            # collector would walk through all of it again and again, in the middle of calls.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GARBAGE)
            await server.run()
        finally:
            await database.close()

    lean.share_one_heap()
    try:
        settings = kind.load()
        logs.configure(settings.service, form=settings.log_format, level=settings.log_level)
        metrics.serve(settings.metrics_listen)
        traces = tracing.configure(settings.service)
        try:
            uvloop.run(serve(settings))
        finally:
            traces.end()
    except SettingsError as error:
        sys.exit(str(error))
