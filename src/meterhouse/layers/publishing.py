"""Making a draft the publication: Delta logs, serving store, and the switch to both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from meterhouse.lake.delta import Contents, DeltaTables
from meterhouse.lake.draft import Draft, DraftTable
from meterhouse.lake.published import Published, PublishedTable, encoded_schema, write_published
from meterhouse.layers.speed import LiveServing
from meterhouse.models.graph import Models
from meterhouse.models.model import Model
from meterhouse.ports import Blobs, Engine, Relation, Stamp

__all__ = ["Publishing"]

_PENDING: Final = "serving.pending"
"""There while the serving store may stand for another publication than the lake's."""


@dataclass(frozen=True)
class Publishing:
    """Commits, loads and switches. Nobody sees anything of a publication before the switch."""

    blobs: Blobs
    models: Models
    engine: Engine
    serving: LiveServing
    lake: DeltaTables
    keep_windows: timedelta
    """How much event time of tables with ``keep`` is loaded into the serving store."""

    def commit(
        self,
        draft: Draft,
        at: tuple[Stamp, datetime],
        generation: int,
        details: Mapping[str, Any],
    ) -> Published:
        """Commit every table to its Delta log; our readers go on with the last publication.

        Args:
            draft: What every table will be.
            at: Up to where in the log, and the time of that entry.
            generation: Number of the generation.
            details: Travel with every answer.
        """
        stamp, ingest_ts = at
        note = {
            "meterhouse.position": str(stamp.position),
            "meterhouse.generation": str(generation),
        }
        tables = {
            name: self._commit_table(table, draft, note)
            for name, table in sorted(draft.tables.items())
        }
        return Published(
            stamp=stamp,
            ingest_ts=ingest_ts,
            generation=generation,
            tables=tables,
            details=details,
            root=str(draft.lake),
        )

    def _commit_table(
        self, table: DraftTable, draft: Draft, note: Mapping[str, str]
    ) -> PublishedTable:
        """Commit one table to its Delta log, unless that holds just this already."""
        name = table.shape.name
        old = draft.before.tables.get(name) if draft.before is not None else None
        if table.kept and old is not None and not self.lake.ahead_of(name, old.version):
            return old
        if table.kept:
            # A crash left another state in the Delta log, or a part of the lake is gone.
            draft.relation(name)
        contents = Contents(
            table.shape.schema,
            table.shape.partition_by,
            table.files,
            table.rearranged,
            table.statistics,
            note,
        )
        version = self.lake.commit(name, contents, published=old.version if old else None)
        return PublishedTable(
            name=name,
            version=version,
            rows=table.rows,
            model=table.shape.model,
            schema=encoded_schema(table.shape.schema),
            partition_by=table.shape.partition_by,
            files=table.files,
            log=self.lake.log_files(name, version, old.log if old is not None else ()),
        )

    def switch(
        self, published: Published, progress: Callable[[str], None], *, changed: bool
    ) -> bool:
        """Load gold into the serving store beside what is visible, then switch lake and answers.

        One after the other, and at once: readers of the lake take the answers for the time in
        between. Returns whether anything was loaded.
        """
        epoch = published.checksum[:16]
        details = {"generation": published.generation, **published.details}
        loads = changed or self.serving.epoch() != published.stamp or self._pending()
        if loads:
            progress("serving")
            self._load(epoch, published, details)
        if changed:
            progress("publication")
            # First of all: from here on a crash must not leave old answers under a new position.
            self.blobs.put(_PENDING, published.checksum.encode("ascii"), durable=True)
            write_published(self.blobs, published)
        self.serving.publish(
            epoch,
            published.stamp,
            ingest_ts=published.ingest_ts,
            details=json.dumps(details, sort_keys=True),
        )
        self.blobs.delete(_PENDING)
        return loads

    def _load(self, epoch: str, published: Published, details: Mapping[str, Any]) -> None:
        names = sorted(name for name in published.tables if name.startswith("gold."))
        relations: dict[str, Relation] = {name: published.relation(name) for name in names}
        with self.engine.session(relations) as session:
            for name in names:
                self.serving.load(epoch, name, session.stream(self._loaded(name, details)))

    def _loaded(self, name: str, details: Mapping[str, Any]) -> str:
        """Return the SELECT of the rows of a table that the serving store holds."""
        model, first = self.models.by_name.get(name), details.get("keep_from", {}).get(name)
        if model is None or not model.keep or first is None:
            return f"SELECT * FROM {name}"
        return f"SELECT * FROM {name} WHERE \"{model.keep}\" >= DATE '{first}'"

    def _pending(self) -> bool:
        try:
            self.blobs.read(_PENDING)
        except FileNotFoundError:
            return False
        return True

    def clean(self, published: Published, draft: Draft) -> None:
        """Delete what no version that stays needs, now and then.

        Files of the publication before stay as well: however long this batch took, somebody
        may have opened that one a moment ago.
        """
        both = [published] if draft.before is None else [published, draft.before]
        keep = frozenset(
            file.path for one in both for table in one.tables.values() for file in table.files
        )
        for name, table in draft.tables.items():
            if not table.kept:
                self.lake.tidy(published.tables[name], keep)
        self.lake.drop_all_but(published.tables)

    def keep_from(self, draft: Draft, taken: datetime) -> dict[str, str]:
        """Return table → first event time that the serving store holds of it, ISO text.

        ``keep_windows`` before its latest time that is not after ``taken``, the ingestion of the
        last entry: one event from the year 2099 drives nothing out.
        """
        found = {}
        for model in self._kept_models(draft):
            with self.engine.session({model.name: draft.relation(model.name)}) as session:
                rows = session.query(
                    f'SELECT max("{model.keep}")::TIMESTAMPTZ AS latest FROM {model.name} '
                    f"WHERE \"{model.keep}\" <= TIMESTAMPTZ '{taken.isoformat()}'"
                )
            latest = rows["latest"][0].as_py()
            if latest is not None:
                # Days: what is trimmed changes once a day, not with every batch.
                first = (latest.astimezone(UTC) - self.keep_windows).date()
                found[model.name] = first.isoformat()
        return found

    def _kept_models(self, draft: Draft) -> list[Model]:
        return [
            model
            for name, model in sorted(self.models.by_name.items())
            if model.keep and name in draft.tables
        ]
