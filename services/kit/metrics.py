"""Prometheus metrics of a service: rate, errors and duration of each method, and the pool's use."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

import grpc
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from services.kit.settings import SettingsError, host_and_port

CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, math.inf)


class Calls:
    """The calls of one method, by their status and their time.

    Each call is counted, by the thread that answers calls alone, and they are read once in 15 s or
    so. A Counter and a Histogram take a lock for each of four numbers: as long as all that is done
    for an answer that is remembered.
    """

    __slots__ = ("by_code", "by_seconds", "seconds")

    def __init__(self) -> None:
        """None yet."""
        self.by_code = dict.fromkeys(grpc.StatusCode.__members__, 0)
        self.by_seconds = [0] * len(CALL_SECONDS)
        self.seconds = 0.0

    def ended(self, code: str, seconds: float) -> None:
        """Count one that ended with the name of a status."""
        self.by_code[code] += 1
        self.by_seconds[bisect_left(CALL_SECONDS, seconds)] += 1
        self.seconds += seconds


_calls: dict[str, Calls] = defaultdict(Calls)


def calls_of(method: str) -> Calls:
    """Those of the method with this path, which Prometheus sees from now on."""
    return _calls[method]


class _Shown(Collector):
    """Shows the calls of all methods."""

    def collect(self) -> Iterator[Metric]:
        total = CounterMetricFamily("shop_rpc", "Calls by their status.", labels=("method", "code"))
        took = HistogramMetricFamily(
            "shop_rpc_duration_seconds",
            "Time that a call took in this service.",
            labels=("method",),
        )
        for method, calls in _calls.items():
            for code, number in calls.by_code.items():
                total.add_metric((method, code), number)
            numbers = accumulate(calls.by_seconds)
            buckets = list(zip(map(floatToGoString, CALL_SECONDS), numbers, strict=True))
            took.add_metric((method,), buckets, calls.seconds)
        yield total
        yield took


REGISTRY.register(_Shown())
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
