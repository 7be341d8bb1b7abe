"""Delta tables on a folder: the only module that imports deltalake.

A commit here does not say what is added: it says which files the table consists of, and
the difference to whatever the Delta log holds is committed. So a commit that a crashed
batch left beyond ``published.json`` is undone by the next one without a special case.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from meterhouse.errors import DamageError, EnvironmentFailureError, ModelError
from meterhouse.lake.delta_log import LAST, DeltaLog
from meterhouse.lake.files import refused, sha256_of, sync
from meterhouse.lake.published import LogFile, PublishedTable, StoredFile
from meterhouse.lake.retention import RECENT, Kept, kept
from meterhouse.ports import Clock, DataFile

__all__ = ["Contents", "DeltaTables"]

CHECKPOINT_EVERY: Final = 10
"""Commits between two checkpoints."""

_REBUILD: Final = "make the lake anew from the log: meterhouse rebuild"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table shall consist of."""

    schema: pa.Schema
    partition_by: tuple[str, ...]
    files: tuple[StoredFile, ...]
    """All of them, those that were there before included."""
    rearranged: frozenset[str] = frozenset()
    """Paths of ``files``, and of files that go, which hold the same rows in other files:
    readers that follow changes pass over them."""
    statistics: Mapping[str, DataFile] = field(default_factory=dict)
    """By path as in ``files``: smallest and largest values of new files."""
    note: Mapping[str, str] = field(default_factory=dict)
    """Written into the commit, for readers of the Delta log: position, generation."""


class DeltaTables:
    """The tables below one folder, ``<layer>/<table>``. One batch writes at a time.

    Protocol 1/2, no deletion vectors, UTC timestamps: any Delta reader can read them.
    """

    def __init__(self, lake: Path, keep: timedelta, clock: Clock) -> None:
        """Use the folder ``lake``.

        Args:
            lake: Made when the first table is.
            keep: How long versions no longer current can be read: see ``retention``.
            clock: For the time a file was taken out, and the age of versions.
        """
        self._lake = lake
        self._clock = clock
        self._keep = keep
        self._settings = {
            "delta.checkpointInterval": str(CHECKPOINT_EVERY),
            "delta.logRetentionDuration": _interval(keep),
            # A checkpoint lists what was taken out for so long. Nobody reads that list: what
            # may be deleted is found from the versions that stay.
            "delta.deletedFileRetentionDuration": _interval(min(keep, RECENT)),
        }

    def ahead_of(self, name: str, version: int) -> bool:
        """Return whether the Delta log of ``name`` does not end at ``version``.

        True also when it ends before, or is gone. Costs one look at the folder.
        """
        log = self._log(name)
        return not log.commit(version).exists() or log.commit(version + 1).exists()

    def commit(self, name: str, contents: Contents, *, published: int | None = None) -> int:
        """Make ``name`` consist of exactly ``contents``; return the Delta version.

        It is synced to disk, whoever wrote it. When the table consists of just that already,
        nothing is written and its version returned.

        Args:
            name: "layer.table"; the table is made when it is not there.
            contents: Files exist and are synced.
            published: Its version in ``published.json``, which is synced: an unreadable
                commit after it is what a power loss left, and is put aside.

        Raises:
            EnvironmentFailureError: Another process committed at the same moment, or the
                system refuses.
            DamageError: The Delta log can't be read.
            ModelError: The schema has a type that the lake does not keep.
        """
        schema = _delta_schema(name, contents.schema)
        table = self._open(name, published)
        before = table.version() if table is not None else -1
        try:
            if table is None:
                self._create(name, schema, contents)
                commits = 1
            elif _same_shape(table, schema, contents.partition_by):
                commits = self._set_up(table, contents) + self._change(
                    name, table, schema, contents
                )
            else:
                commits = self._replace(name, table, schema, contents)
            durable = -1 if published is None else published
            if commits or before > durable:
                self._begin_day(name, before + commits, durable)
                # With what a batch left there that died before it was synced: from now on
                # readers rest on it.
                self._sync(name, min(before, durable))
        except CommitFailedError as error:
            raise EnvironmentFailureError(
                f'another process committed to table "{name}" at the same moment',
                str(self._lake / _folder(name)),
                "let one batch run at a time, then run this one again; nothing was published",
            ) from error
        except OSError as error:
            raise refused(error, self._lake / _folder(name)) from error
        return before + commits

    def log_files(
        self, name: str, version: int, known: Sequence[LogFile] = ()
    ) -> tuple[LogFile, ...]:
        """Return the files of the Delta log of ``name`` that stay, with hashes.

        Args:
            name: The table.
            version: Its version; nothing later is returned.
            known: What was returned for an earlier version. These files never change, so
                their hashes stand: a new one would make damage look as if it was meant.
        """
        hashes = {file.path: file for file in known}
        log, stays = self._log(name), self._kept(name)
        paths = [
            path
            for number, path in log.files()
            if number <= version
            and (number >= stays.first if path.suffix == ".json" else number in stays.checkpoints)
        ]
        last = log.folder / LAST
        found = []
        for path in (*paths, *([last] if last.exists() else ())):
            relative = f"{_folder(name)}/_delta_log/{path.name}"
            if relative in hashes and path.name != LAST:
                found.append(hashes[relative])
            else:
                found.append(LogFile(relative, path.stat().st_size, sha256_of(path)))
        return tuple(found)

    def tidy(self, table: PublishedTable, keep: frozenset[str]) -> None:
        """Delete what no version that stays needs, once ``table`` is published.

        Data files now and then: listing all of them costs what the table's size costs.

        Args:
            table: Its log is what stays of the Delta log up to its version.
            keep: Paths of data files that stay, as for ``vacuum``.
        """
        names = frozenset(Path(file.path).name for file in table.log)
        self._log(table.name).drop(table.version, names)
        if table.version and table.version % CHECKPOINT_EVERY == 0:
            self.vacuum(table.name, keep)

    def drop_all_but(self, names: Collection[str]) -> list[str]:
        """Delete the folders of tables not among ``names``, once nobody can be reading them.

        That is when nothing in them changed for the time kept. Returns what was deleted.
        """
        dropped = []
        for log in sorted(self._lake.glob("*/*/_delta_log")):
            name = f"{log.parent.parent.name}.{log.parent.name}"
            age = self._clock().timestamp() - max(
                (path.stat().st_mtime for path in log.iterdir()), default=0.0
            )
            if name not in names and age >= self._keep.total_seconds():
                shutil.rmtree(log.parent)
                dropped.append(name)
        return dropped

    def vacuum(self, name: str, keep: frozenset[str]) -> int:
        """Delete data files that no version that stays needs; return how many.

        Files that a crashed batch wrote and never committed go too, when they have the age
        of a version that goes. Idempotent.

        Args:
            name: The table.
            keep: Paths (relative to the lake) that stay whatever the Delta log says: what
                is published.
        """
        folder = self._lake / _folder(name)
        needed = self._needed(name)
        young = self._clock().timestamp() - min(self._keep, RECENT).total_seconds()
        deleted = 0
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            hidden = inside.parts[0] == "_delta_log" or path.name.startswith(("_", "."))
            if hidden or not path.is_file():
                continue
            if str(inside) in needed or f"{_folder(name)}/{inside}" in keep:
                continue
            if path.stat().st_mtime <= young:
                path.unlink(missing_ok=True)
                deleted += 1
        if deleted:
            _remove_empty(folder)
        return deleted

    def _needed(self, name: str) -> set[str]:
        """Return the data files, relative to the table, of all versions that stay."""
        stays = self._kept(name)
        # A file of an earlier version is one of the last, or was taken out in between.
        needed = self._log(name).removed_after(stays.recent)
        for version in (None, *stays.days):
            needed |= _live(self._opened(name, version)).keys()
        return needed

    def _kept(self, name: str) -> Kept:
        log = self._log(name)
        return kept(log.times(), log.checkpoints(), self._clock(), self._keep)

    def _begin_day(self, name: str, version: int, durable: int) -> None:
        """Give ``version`` a checkpoint when it is the first of its day: it shall stay."""
        log = self._log(name)
        # While nothing is published, the first of all stands by itself, whoever left it there.
        at = log.times().get(max(durable, 0))
        new = at is not None and at.date() < self._clock().date()
        if new and version not in log.checkpoints():
            self._opened(name).create_checkpoint()

    def _create(self, name: str, schema: Schema, contents: Contents) -> None:
        folder = self._lake / _folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        create_table_with_add_actions(
            str(folder),
            schema,
            self._adds(name, contents, contents.files),
            mode="error",
            partition_by=list(contents.partition_by),
            configuration=self._settings,
            commit_properties=_properties(contents),
        )

    def _change(self, name: str, table: DeltaTable, schema: Schema, contents: Contents) -> int:
        """Commit the difference to what is live; return the number of commits."""
        live = _live(table)
        prefix = f"{_folder(name)}/"
        wanted = {file.path.removeprefix(prefix): file for file in contents.files}
        actions: list[AddAction | RemoveAction] = list(
            self._adds(name, contents, [wanted[path] for path in wanted if path not in live])
        )
        now = int(self._clock().timestamp() * 1000)
        for path, (size, values) in live.items():
            if path not in wanted:
                moved = f"{prefix}{path}" in contents.rearranged
                actions.append(RemoveAction(path, not moved, now, size, values))
        if not actions:
            return 0
        table.create_write_transaction(
            actions,
            "append",
            schema,
            list(contents.partition_by),
            commit_properties=_properties(contents),
            post_commithook_properties=_HOOKS,
        )
        return 1

    def _replace(self, name: str, table: DeltaTable, schema: Schema, contents: Contents) -> int:
        """Give the table another schema or partitioning; return how many commits.

        A path can't be taken out and put in by one commit: where old and new files
        overlap (a left-over commit is undone), the table is empty for one version.
        """
        live = _live(table)
        prefix = f"{_folder(name)}/"
        overlap = any(file.path.removeprefix(prefix) in live for file in contents.files)
        create_table_with_add_actions(
            str(self._lake / _folder(name)),
            schema,
            [] if overlap else self._adds(name, contents, contents.files),
            mode="overwrite",
            partition_by=list(contents.partition_by),
            configuration=self._settings,
            commit_properties=_properties(contents),
            post_commithook_properties=_HOOKS,
        )
        if not overlap:
            return 1
        return 1 + self._change(name, self._opened(name), schema, contents)

    def _adds(self, name: str, contents: Contents, files: Sequence[StoredFile]) -> list[AddAction]:
        prefix = f"{_folder(name)}/"
        return [
            AddAction(
                path=file.path.removeprefix(prefix),
                size=file.size,
                partition_values={
                    column: file.partition.get(column) for column in contents.partition_by
                },
                modification_time=(self._lake / file.path).stat().st_mtime_ns // 1_000_000,
                data_change=file.path not in contents.rearranged,
                stats=_statistics(file, contents.statistics.get(file.path)),
            )
            for file in files
        ]

    def _set_up(self, table: DeltaTable, contents: Contents) -> int:
        """Give the table our settings if it has others; return the number of commits."""
        if self._settings.items() <= dict(table.metadata().configuration).items():
            return 0
        table.alter.set_table_properties(
            self._settings,
            commit_properties=_properties(contents),
            post_commithook_properties=_HOOKS,
        )
        return 1

    def _open(self, name: str, published: int | None) -> DeltaTable | None:
        log, durable = self._log(name), -1 if published is None else published
        times = log.times()
        if any(version > durable and version not in times for version in log.checkpoints()):
            # The power took the commit and left its checkpoint: it opens, and takes no other.
            log.put_aside(durable)
            times = log.times()
        if not times:
            return None
        try:
            return self._opened(name)
        except DamageError:
            if not log.put_aside(durable):
                raise
            return self._open(name, published)

    def _opened(self, name: str, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(str(self._lake / _folder(name)), version=version)
        except DeltaError as error:
            raise DamageError(
                f'the Delta log of table "{name}" can\'t be read',
                str(self._log(name).folder),
                _REBUILD,
            ) from error

    def _sync(self, name: str, after: int) -> None:
        """Sync what was added to the Delta log: deltalake does not."""
        log = self._log(name)
        for version, path in log.files():
            if version > after:
                sync(path)
        if (log.folder / LAST).exists():
            sync(log.folder / LAST)
        sync(log.folder)
        if after < 0:
            for parent in (log.folder.parent, log.folder.parent.parent, self._lake):
                sync(parent)

    def _log(self, name: str) -> DeltaLog:
        return DeltaLog(self._lake / _folder(name) / "_delta_log")


_HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""What goes of the log is deleted by ``tidy``: not before another one is published."""


def _folder(name: str) -> str:
    return name.replace(".", "/", 1)


def _same_shape(table: DeltaTable, schema: Schema, partition_by: tuple[str, ...]) -> bool:
    return (
        table.schema().to_json() == schema.to_json()
        and tuple(table.metadata().partition_columns) == partition_by
    )


def _interval(length: timedelta) -> str:
    return f"interval {max(0, int(length.total_seconds()))} seconds"


def _properties(contents: Contents) -> CommitProperties:
    # No retries: deltalake would lay our change over somebody else's without looking.
    return CommitProperties(custom_metadata=dict(contents.note), max_commit_retries=0)


def _live(table: DeltaTable) -> dict[str, tuple[int, dict[str, str | None]]]:
    """Path on disk → (size, partition values as text) of the files of this version."""
    columns = table.metadata().partition_columns
    actions = pa.table(table.get_add_actions(flatten=True))
    found: dict[str, tuple[int, dict[str, str | None]]] = {}
    values = {column: actions[f"partition.{column}"].to_pylist() for column in columns}
    sizes = actions["size_bytes"].to_pylist()
    for row, path in enumerate(actions["path"].to_pylist()):
        partition = {column: _text(values[column][row]) for column in columns}
        found[unquote(path)] = (sizes[row], partition)
    return found


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _statistics(file: StoredFile, written: DataFile | None) -> str:
    statistics: dict[str, Any] = {"numRecords": file.rows}
    if written is not None:
        for key, values in (("minValues", written.minimum), ("maxValues", written.maximum)):
            if values:
                statistics[key] = {column: json.loads(text) for column, text in values.items()}
    return json.dumps(statistics)


def _delta_schema(name: str, schema: pa.Schema) -> Schema:
    for column in schema:
        problem = _unfit(column.type)
        if problem:
            raise ModelError(
                f'column "{column.name}" of table "{name}" is {column.type}: {problem}',
                name,
                "cast it in the model: DECIMAL(38, 9), BIGINT, TIMESTAMPTZ, …",
            )
    return Schema.from_arrow(schema)


def _unfit(kind: pa.DataType) -> str:
    """Why the lake does not keep values of this type; empty when it does."""
    if pa.types.is_floating(kind):
        return "binary fractions lose cents"
    if pa.types.is_timestamp(kind) and (kind.tz != "UTC" or kind.unit != "us"):
        return "a time needs its zone, and microseconds"
    if pa.types.is_unsigned_integer(kind) or pa.types.is_time(kind) or pa.types.is_null(kind):
        return "Delta does not know it"
    for index in range(kind.num_fields):
        problem = _unfit(kind.field(index).type)
        if problem:
            return problem
    return ""


def _remove_empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and path.name != "_delta_log" and not any(path.iterdir()):
            path.rmdir()
