"""Times: timezone-aware `datetime` inside, `google.protobuf.Timestamp` outside; microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def timestamp(moment: datetime) -> Timestamp:
    """`moment` as a message."""
    return from_micros((moment - _EPOCH) // _MICROSECOND)


def from_micros(micros: int) -> Timestamp:
    """So many microseconds after 1970 as a message."""
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)
