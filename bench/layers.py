"""Sorts sampled stacks into the layers of a service."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# A stack belongs to the first of these that its innermost frame matches, else its caller's, and so
# on outwards. A frame reads `function (file:line)`, a native one may have no line.
RULES = [
    (re.compile(pattern), layer)
    for pattern, layer in (
        (r"^gc_collect|^gc_alloc", "garbage collection"),
        (r"\(cygrpc|_cython/cygrpc|cygrpc\.", "gRPC core"),
        (r"\(grpc/", "gRPC core"),
        (r"\(stripe/|\(httpx/|\(httpcore/|\(anyio/|\(h11/", "Stripe's SDK and HTTP"),
        (r"structlog/|services/kit/logs|\(logging/", "log lines"),
        (r"prometheus_client/|services/kit/metrics", "metrics"),
        (r"protovalidate|services/kit/validation", "validation"),
        (r"\(jwt/|cryptography/|services/kit/(auth|tokens)|services/users/tokens", "tokens"),
        (r"_json\.c|\((\S*/)?json/", "JSON"),
        (r"asyncpg/|protocol\.c:|recordobj\.c", "asyncpg"),
        (r"services/kit/(db|statements|batches)", "pool, transaction"),
        (r"services/kit/idempotency", "idempotency"),
        (r"services/kit/(clients|deadlines)", "calls to other services"),
        (r"services/kit/(interceptors|methods|server|call|failures)", "layers"),
        (r"services/\w+/\w*messages\.py|services/kit/(money|times|etags|ids|pages)", "rendering"),
        (r"services/\w+/\w*(store|search)\w*\.py", "statements"),
        (r"services/(?!kit)\w+/", "handler, rules"),
        (r"google/protobuf|upb_|PyUpb", "protobuf"),
        (r"uuid_utils|\(uuid\.py", "ids"),
        (r"asyncio/(timeouts|tasks|locks|queues)|_asyncio", "asyncio: time-outs, locks, tasks"),
        (r"uvloop|uv_|uv__|asyncio/(runners|base_events|events)", "event loop"),
    )
]
OTHER = "other"
# Where a thread waits, and uses nothing.
IDLE = re.compile(r"^(epoll_p?wait|poll|ppoll|futex\w*|pthread_cond\w*|sem_\w*|select)\b")


def layer_of(stack: str) -> str:
    """The layer of a stack, whose frames are joined by semicolons, the innermost last."""
    for frame in reversed(stack.split(";")):
        for pattern, layer in RULES:
            if pattern.search(frame):
                return layer
    return OTHER


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Each layer's share of the time in which anything was done, from lines `stack count`."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if not IDLE.search(stack.rpartition(";")[2]):
            found[layer_of(stack)] += int(count)
    total = sum(found.values())
    return {layer: count / total for layer, count in found.most_common()}
