"""Times: timezone-aware `datetime` inside, `google.protobuf.Timestamp` outside; microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def timestamp(moment: datetime) -> Timestamp:
    """`moment` as a message."""
    return from_micros(micros(moment))


def from_micros(micros: int) -> Timestamp:
    """So many microseconds after 1970 as a message."""
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def micros(moment: datetime) -> int:
    """How many microseconds after 1970 `moment` is."""
    return (moment - _EPOCH) // _MICROSECOND


def at_micros(micros: int) -> datetime:
    """The moment so many microseconds after 1970, or the nearest that there is."""
    return _EPOCH + timedelta(microseconds=min(max(micros, _FIRST), _LAST))


def ceiling(message: Timestamp) -> datetime:
    """The first moment, to the microsecond, that is not before `message`."""
    return at_micros(message.seconds * 1_000_000 + -(-message.nanos // 1000))
