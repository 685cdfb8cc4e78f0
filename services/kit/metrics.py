"""Prometheus metrics of a service: rate, errors and duration of each method, and the pool's use."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from services.kit.settings import SettingsError, host_and_port

RPC_SECONDS = Histogram(
    "shop_rpc_duration_seconds",
    "Time that a call took in this service.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
RPC_TOTAL = Counter("shop_rpc_total", "Calls by their status.", ["method", "code"])
RPC_IN_FLIGHT = Gauge("shop_rpc_in_flight", "Calls that are being answered now.")
POOL_IN_USE = Gauge("shop_db_connections_in_use", "Database connections that are lent out now.")
POOL_LIMIT = Gauge("shop_db_connections_limit", "Database connections that may be lent out.")
POOL_REFUSED = Counter("shop_db_pool_refused_total", "Times that no connection came free in time.")
REPLICA_LAG = Gauge(
    "shop_db_replica_lag_seconds",
    "How far the replica may be behind, at most; not a number where there is none.",
)
REPLICA_LAG.set(math.nan)
TOLERANT_READS = Counter(
    "shop_db_tolerant_reads_total", "Reads that may lag, by the side that answered.", ["side"]
)
OUTBOX_DELIVERED = Counter("shop_outbox_delivered_total", "Outbox rows delivered.", ["topic"])
OUTBOX_FAILED = Counter("shop_outbox_failed_total", "Deliveries that failed and wait.", ["topic"])
OUTBOX_PENDING = Gauge("shop_outbox_pending", "Outbox rows that wait, of all processes.", ["topic"])
OUTBOX_OLDEST = Gauge(
    "shop_outbox_oldest_seconds", "Age of the oldest outbox row, of all processes.", ["topic"]
)
OUTBOX_LAG = Histogram(
    "shop_outbox_lag_seconds",
    "Time from the commit of an outbox row to its delivery.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300),
)


def serve(listen: str) -> None:
    """Answer Prometheus on `host:port`, from a thread; "" is nowhere. Raises SettingsError."""
    if listen:
        host, port = host_and_port(listen)
        try:
            start_http_server(port, addr=host)
        except OSError as error:
            raise SettingsError(f"Cannot listen on {listen}: {error.strerror}") from None
