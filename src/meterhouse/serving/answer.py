"""An answer, and up to where in the log it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from meterhouse.formats import Column, text, timestamp_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Answer", "AsOf", "Coverage"]


@dataclass(frozen=True, slots=True)
class AsOf:
    """Up to where the log is in an answer."""

    position: int
    ingest_ts: datetime
    """When the entry at that position was taken; UTC."""
    age_s: int
    """Seconds since then, 0 when the clock went back."""
    stale: tuple[str, ...] = ()
    """Tables in the answer that the last batch left as they were: their models are not valid."""
    batch_only: tuple[str, ...] = ()
    """Tables in the answer that stand where the last batch stood, while others follow the log."""

    @classmethod
    def at(cls, position: int, ingest_ts: datetime, now: datetime) -> AsOf:
        """Return the position with its age at ``now``."""
        age = (now.astimezone(UTC) - ingest_ts).total_seconds()
        return cls(position, ingest_ts, max(0, int(age)))

    @classmethod
    def of_tables(
        cls, published: AsOf, tables: Iterable[str], details: Mapping[str, Any], now: datetime
    ) -> AsOf:
        """Return up to where ``tables`` stand: where the oldest of them does.

        Args:
            published: Up to where the publication stands.
            tables: What the answer is read from.
            details: Of the publication: ``stale`` and ``stale_ingest_ts`` name the tables that
                are older than it.
            now: For the age.
        """
        behind = details.get("stale", {})
        stale = sorted(name for name in set(tables) if name in behind)
        if not stale:
            return published
        oldest = min(stale, key=lambda name: behind[name])
        taken = datetime.fromisoformat(details["stale_ingest_ts"][oldest])
        found = cls.at(behind[oldest], taken, now)
        return cls(found.position, found.ingest_ts, found.age_s, tuple(stale))

    def behind(
        self, tables: Iterable[str], behind: Mapping[str, tuple[int, datetime]], now: datetime
    ) -> AsOf:
        """Return up to where ``tables`` stand when some follow with each batch only.

        Args:
            tables: What the answer is read from.
            behind: Batch-only tables with the position and time of their rows.
            now: For the age.
        """
        slow = sorted(name for name in set(tables) if name in behind)
        if not slow:
            return self
        oldest = min((behind[name] for name in slow), key=lambda at: at[0])
        found = self if self.position <= oldest[0] else AsOf.at(*oldest, now)
        return replace(found, stale=self.stale, batch_only=tuple(slow))

    def body(self) -> dict[str, object]:
        """Return it as JSON shows it."""
        body: dict[str, object] = {
            "log_position": self.position,
            "ingest_ts": timestamp_text(self.ingest_ts),
            "age_s": self.age_s,
        }
        if self.stale:
            body["stale"] = list(self.stale)
        if self.batch_only:
            body["batch_only"] = list(self.batch_only)
        return body

    def sentence(self) -> str:
        """Return it as a person reads it."""
        at = timestamp_text(self.ingest_ts)
        found = f"as of log position {self.position:,} ({at}, {_length(self.age_s)} ago)"
        if self.batch_only and not self.stale:
            return f"{found}, the last batch: {', '.join(self.batch_only)} does not follow live"
        if not self.stale:
            return found
        verb = "is" if len(self.stale) == 1 else "are"
        return (
            f"{found}: {', '.join(self.stale)} {verb} older than the last batch, because a model "
            "is not valid (meterhouse models lint)"
        )


def _length(seconds: int) -> str:
    """Return a length of time in the largest unit of which there are two at least."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}"
    return f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of the rows behind a sum reported a value at all."""

    column: str
    reported: int
    of: int
    rows: str
    """What is counted: "events"."""

    def sentence(self) -> str:
        """Return it as a person reads it."""
        return f"coverage: {self.column} reported by {self.reported:,} of {self.of:,} {self.rows}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of one question, with what they stand for. Sorted by the grain."""

    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]
    as_of: AsOf
    coverage: tuple[Coverage, ...] = ()
    window: tuple[date, date] | None = None
    """First and last day looked at, where the question is about the last N days."""

    def extras(self) -> dict[str, object]:
        """Return what the JSON form holds beside columns and rows."""
        body: dict[str, object] = {"as_of": self.as_of.body()}
        if self.window:
            body["window"] = {"from": self.window[0], "to": self.window[1]}
        if self.coverage:
            body["coverage"] = {
                item.column: {"reported": item.reported, "of": item.of} for item in self.coverage
            }
        return body

    def sentences(self) -> list[str]:
        """Return the same for people: what goes to standard error."""
        window = [f"days {self.window[0]} to {self.window[1]}"] if self.window else []
        return [self.as_of.sentence(), *window, *(item.sentence() for item in self.coverage)]

    def table(self) -> pa.Table:
        """Return the answer as an Arrow table: decimals DECIMAL(38,9), days DATE."""
        import pyarrow as pa

        types = {
            "text": pa.string(),
            "integer": pa.int64(),
            "decimal": pa.decimal128(38, 9),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "timestamp": pa.timestamp("us", "UTC"),
        }
        arrays = []
        for number, column in enumerate(self.columns):
            values = [row[number] for row in self.rows]
            if column.kind in types:
                arrays.append(pa.array(values, types[column.kind]))
            else:
                arrays.append(pa.array(map(text, values), pa.string()))
        return pa.table(arrays, names=[column.name for column in self.columns])
