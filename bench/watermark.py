"""Spark Structured Streaming's watermark rule for an aggregation over tumbling windows.

The rule, as Spark 3.4 and newer have it (the classes named are Spark's):

1. The event time of every row that a micro-batch reads is seen, of late ones too. When the
   micro-batch has ended, the watermark becomes the largest event time seen so far, less the
   delay, in whole milliseconds; it never goes back, and is 1970 at first.
   (``EventTimeWatermarkExec``, ``WatermarkTracker``)
2. A row is dropped when the end of its window <= the watermark for late events. Nothing but
   a counter tells of it. (``WatermarkSupport``, ``StateStoreSaveExec``; append and update mode)
3. The watermark for late events is the one that was in force in the micro-batch before.
   (``PropagateWatermarkSimulator.getInputWatermarkForLateEvents``)
4. When the watermark has risen and no new data waits, a micro-batch without data runs
   (``spark.sql.streaming.noDataMicroBatches.enabled``, on unless switched off).

So in a backlog, whose triggers follow one another, a row is measured against what was seen up to
two triggers ago; in a stream that is read as it comes, against all up to the trigger before.
The guide, with the example that the tests follow:
https://spark.apache.org/docs/latest/structured-streaming-programming-guide.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

FIVE_MINUTES = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Event:
    """One usage event, as far as a watermark looks at it."""

    micros: int
    """Event time: microseconds since 1970, UTC."""
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Mart:
    """What a pipeline has in its mart when all was delivered."""

    events: int
    usd: Decimal


class Watermark:
    """The watermark of one query, micro-batch by micro-batch. Times: microseconds."""

    def __init__(self, delay: timedelta) -> None:
        """Start where every query starts: at 1970, with nothing seen."""
        self._delay = delay // timedelta(milliseconds=1)
        self._reached = 0
        self._in_force = 0
        self._before = 0

    def begin(self) -> int:
        """Begin a micro-batch; return the watermark its late rows are told by."""
        self._before, self._in_force = self._in_force, self._reached
        return self._before * 1000

    def end(self, latest: int) -> bool:
        """End a micro-batch that saw ``latest``; return whether the watermark has risen."""
        self._reached = max(self._reached, latest // 1000 - self._delay)
        return self._reached > self._in_force


def watermarked(
    triggers: Iterable[Sequence[Event]],
    delay: timedelta,
    *,
    paced: bool,
    window: timedelta = FIVE_MINUTES,
) -> Mart:
    """Return what is in the mart after ``triggers``, each the rows of one trigger.

    Args:
        triggers: Every one has at least one row.
        delay: As given to ``withWatermark``.
        paced: True when the query comes to rest after each trigger, so that a micro-batch
            without data runs wherever the watermark has risen.
        window: Length of the windows, which start at whole multiples of it since 1970.
    """
    watermark = Watermark(delay)
    length = window // timedelta(microseconds=1)
    events, usd = 0, Decimal(0)
    for rows in triggers:
        late = watermark.begin()
        for row in rows:
            window_end = row.micros // length * length + length
            if window_end > late:
                events += 1
                usd += row.usd
        if watermark.end(max(row.micros for row in rows)) and paced:
            watermark.begin()
    return Mart(events, usd)
