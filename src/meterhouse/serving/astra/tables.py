"""The replica in tables of the Data API: typed columns, one partition key a question.

The same tables as in CQL. An insert writes over the row of its key; the API offers no
condition on it and takes no timestamp, so ``claims`` keeps two writers apart.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from meterhouse.errors import ConfigError
from meterhouse.serving.astra.claims import Claim
from meterhouse.serving.astra.connection import ApiSession
from meterhouse.serving.astra.reading import pages, taken_by
from meterhouse.serving.astra.values import as_json, from_json, plain, to_json
from meterhouse.serving.cassandra.layout import AS_OF, ORGS, REPLICA, WRITERS, CqlColumn, CqlTable
from meterhouse.serving.cassandra.tables import columns_of, create_orgs, create_replica
from meterhouse.serving.cassandra.values import period, to_cql
from meterhouse.serving.partitioned import Partitions, ReplicaSnapshot, reach
from meterhouse.serving.replication import Change, ReplicaPosition, Replication
from meterhouse.serving.schema import Condition

__all__ = ["TablesReplica", "TablesSnapshot"]

_NAME: Final = "serving"
_FIELDS: Final = tuple(one.name for one in fields(ReplicaPosition))
_PIECE: Final = 1_000
"""Rows between two looks at who else writes."""
_TOGETHER: Final = 50
"""Rows a request."""
_ALL: Final = "all"


def _position(session: ApiSession) -> ReplicaPosition | None:
    if REPLICA not in session.run(session.database.list_table_names):
        return None
    table = session.table(REPLICA)
    found = session.run(lambda: table.find_one({"name": _NAME}))
    if found is None or found["position"] is None:
        return None
    return ReplicaPosition(*[found[name] for name in _FIELDS])


class _Marks:
    """Marks of writers, as rows beside the position."""

    def __init__(self, session: ApiSession) -> None:
        self._session = session
        self._table = session.table(REPLICA)

    def names(self) -> set[str]:
        rows = pages(self._session, self._table, {}, {"name": True})
        return {row["name"] for row in rows} - {_NAME}

    def put(self, name: str) -> None:
        self._session.run(lambda: self._table.insert_one({"name": name}))

    def remove(self, name: str) -> None:
        self._session.run(lambda: self._table.delete_one({"name": name}))


class TablesReplica(Replication):
    """The gold tables of one embedded store, kept as tables of the Data API."""

    def __init__(
        self,
        session: ApiSession,
        tables: Mapping[str, tuple[CqlTable, ...]],
        new_name: Callable[[], str],
    ) -> None:
        """Keep ``tables`` (``cassandra.tables.cql_tables``); those that are missing are made.

        Args:
            session: In the keyspace.
            tables: By gold model.
            new_name: Returns a name for a writer's mark that nobody has had.
        """
        self.session = session
        self.tables = tables
        self.claim = Claim(_Marks(session), new_name, session.where)

    @property
    def where(self) -> str:
        """The database, as messages name it."""
        return self.session.where

    def label(self) -> str:
        """Return what the replica is in, for people."""
        return "Data API (tables)"

    def position(self) -> ReplicaPosition | None:
        """Return up to where the replica is; None while it is empty or being made."""
        return _position(self.session)

    def make_tables(self) -> bool:
        """Make what is missing; return whether a table had to be made or made anew."""
        database = self.session.database
        wanted = {
            table.name: _definition(table) for found in self.tables.values() for table in found
        }
        wanted[ORGS] = _plain_definition(create_orgs(), ["list"], ["org_id"])
        wanted[REPLICA] = _plain_definition(create_replica(), ["name"], [])
        taken_by(self.session.run(database.list_collection_names), wanted, "collection", self.where)
        listed = self.session.run(database.list_tables)
        there = {one.name: _types(one.definition.as_dict()["columns"]) for one in listed}
        self._check_unstamped(there)
        made = False
        for name, definition in wanted.items():
            if there.get(name) == definition["columns"]:
                continue
            if name in there:
                self.session.run(lambda name=name: database.drop_table(name))  # type: ignore[misc]
            self.session.run(
                lambda name=name, definition=definition: database.create_table(  # type: ignore[misc]
                    name, definition=definition, if_not_exists=True
                )
            )
            made = True
        return made

    def _check_unstamped(self, names: Container[str]) -> None:
        """Refuse a keyspace that was written by CQL: its timestamps win over every write here.

        Raises:
            ConfigError: It was.
        """
        if WRITERS in names:
            raise ConfigError(
                f'the keyspace has a table "{WRITERS}": its replica is written by CQL, and what '
                "the Data API writes would lose against it",
                self.where,
                "give each way a keyspace of its own (astra.keyspace, cassandra.keyspace), or "
                "write by CQL alone. Nothing was written",
            )

    def writer(self, table: CqlTable) -> TableRows:
        """Return what writes ``table``."""
        return TableRows(self.session, table, self.claim)

    def rows(self, table: CqlTable) -> Iterator[tuple[Any, ...]]:
        """Yield every row of ``table``: its columns, in their order, as Python values."""
        return _read(self.session, table, table.columns, [{}])

    def begin(self) -> str:
        """Say that we write; return why all of it has to be written, or nothing."""
        return self.claim.begin()

    def end(self) -> None:
        """Say that all was written, and the position too."""
        self.claim.end()

    def forget(self) -> None:
        """Delete the position, so that no answer is given, and the list of organisations."""
        for name in (REPLICA, ORGS):
            table = self.session.table(name)
            self.session.run(lambda table=table: table.delete_many({}))  # type: ignore[misc]

    def list_orgs(self, orgs: Sequence[str], target: ReplicaPosition) -> None:
        """Add organisations to the list of them."""
        table = self.session.table(ORGS)
        rows = [{"list": _ALL, "org_id": org, AS_OF: target.position} for org in orgs]
        _insert(self.session, table, rows)

    def stand(self, target: ReplicaPosition) -> None:
        """Write the position."""
        self.claim.check()
        row = {"name": _NAME, **{name: getattr(target, name) for name in _FIELDS}}
        table = self.session.table(REPLICA)
        self.session.run(lambda: table.insert_one(row))


class TableRows:
    """Writes and lists the rows of one table."""

    def __init__(self, session: ApiSession, table: CqlTable, claim: Claim) -> None:
        self._session = session
        self._table = table
        self._claim = claim
        self._remote = session.table(table.name)
        keys = _keys(table)
        self._names = [column.name for column in table.columns]
        self._writers = [to_json(column, key=column.name in keys) for column in table.columns]
        self._types = {column.name: column.type for column in table.all_columns}
        by_name = {column.name: column for column in table.columns}
        self._cuts = [
            (part, self._names.index(part.column), to_cql(by_name[part.column], key=True))
            for part in table.partition
            if part.cut
        ]

    def key_of(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return the primary key of a row of the embedded store, as ``keys`` yields it."""
        sent = self._sent(row)
        return tuple([sent[name] for name in self._table.key])

    def write(self, changes: Iterable[Change], generation: int) -> int:
        """Write rows and delete those that are gone; return how many of both. Idempotent."""
        del generation  # nothing here orders writes but the order in which they come
        listed = list(changes)
        for start in range(0, len(listed), _PIECE):
            self._claim.check()
            piece = listed[start : start + _PIECE]
            rows = [
                {**self._sent(row), AS_OF: position} for row, position, gone in piece if not gone
            ]
            _insert(self._session, self._remote, rows)
            self._drop([self.key_of(row) for row, _, gone in piece if gone])
        return len(listed)

    def keys(self) -> Iterator[tuple[Any, ...]]:
        """Yield the key of every row that is there."""
        wanted = dict.fromkeys(self._table.key, True)
        for row in pages(self._session, self._remote, {}, wanted):
            yield tuple([plain(row[name], self._types[name]) for name in self._table.key])

    def delete(self, keys: Sequence[tuple[Any, ...]], generation: int, position: int) -> None:
        """Delete the rows of ``keys``."""
        del generation, position
        for start in range(0, len(keys), _PIECE):
            self._claim.check()
            self._drop(keys[start : start + _PIECE])

    def empty(self) -> None:
        """Delete every row, whoever wrote it."""
        self._session.run(lambda: self._remote.delete_many({}))

    def _drop(self, keys: Sequence[tuple[Any, ...]]) -> None:
        filters = [dict(zip(self._table.key, key, strict=True)) for key in keys]
        self._session.each(
            [lambda one=one: self._remote.delete_one(one) for one in filters]  # type: ignore[misc]
        )

    def _sent(self, row: Sequence[Any]) -> dict[str, Any]:
        found = {
            name: write(value)
            for name, write, value in zip(self._names, self._writers, row, strict=True)
        }
        for part, place, bound in self._cuts:
            first = period(part.cut, self._types[part.column], bound(row[place]))
            found[part.name] = as_json(first, "date")
        return found


class TablesSnapshot(ReplicaSnapshot):
    """``schema.Snapshot`` over tables of the Data API."""

    def __init__(self, session: ApiSession) -> None:
        """Look up where the replica stands.

        Raises:
            UsageError: It is empty, or being made anew.
        """
        self._session = session
        super().__init__(_position(session), session.where)

    def read(
        self, model: str, columns: Sequence[CqlColumn], conditions: Sequence[Condition]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield ``columns`` of the rows in the partitions that ``conditions`` name."""
        table, partitions = reach(self._tables[model], conditions, self._orgs)
        types = {column.name: column for column in table.columns}
        chosen = [types[column.name] for column in columns]
        return _read(self._session, table, chosen, _filters(table, partitions, conditions))

    def _orgs(self) -> list[str]:
        table = self._session.table(ORGS)
        rows = pages(self._session, table, {"list": _ALL}, {"org_id": True})
        return [row["org_id"] for row in rows]


def _filters(
    table: CqlTable, partitions: Partitions | None, conditions: Sequence[Condition]
) -> list[dict[str, Any]]:
    """Return one filter for each partition; all name it, and bounds of the first order."""
    if partitions is None:
        return [{}]
    types = {column.name: column.type for column in table.all_columns}
    bounds: dict[str, dict[str, Any]] = {}
    if table.clustering:
        name = table.clustering[0][0]
        write = to_json(next(one for one in table.columns if one.name == name), key=True)
        operators = {"=": "$eq", ">=": "$gte", "<=": "$lte"}
        for term in conditions:
            if term.column == name:
                bounds.setdefault(name, {})[operators[term.operator]] = write(term.value)
    return [
        {
            **{
                part.name: as_json(value, types[part.name])
                for part, value in zip(table.partition, one, strict=True)
            },
            **bounds,
        }
        for one in partitions
    ]


def _read(
    session: ApiSession,
    table: CqlTable,
    columns: Sequence[CqlColumn],
    filters: Sequence[dict[str, Any]],
) -> Iterator[tuple[Any, ...]]:
    remote = session.table(table.name)
    keys = _keys(table)
    wanted = {column.name: True for column in columns}
    convert = [from_json(column, key=column.name in keys) for column in columns]
    if len(filters) == 1:
        found: Iterable[Iterable[dict[str, Any]]] = [pages(session, remote, filters[0], wanted)]
    else:
        found = session.each(
            [
                lambda one=one: list(remote.find(one, projection=wanted))  # type: ignore[misc]
                for one in filters
            ]
        )
    for rows in found:
        for row in rows:
            yield tuple(
                [
                    read(plain(row[column.name], column.type))
                    for read, column in zip(convert, columns, strict=True)
                ]
            )


def _insert(session: ApiSession, remote: Any, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        session.run(lambda: remote.insert_many(rows, ordered=False, chunk_size=_TOGETHER))


def _keys(table: CqlTable) -> set[str]:
    return {*table.key, *(part.column for part in table.partition)}


def _types(columns: Mapping[str, Any]) -> dict[str, str]:
    return {name: one["type"] if isinstance(one, dict) else one for name, one in columns.items()}


def _definition(table: CqlTable) -> dict[str, Any]:
    return {
        "columns": {**{column.name: column.type for column in table.all_columns}, AS_OF: "bigint"},
        "primaryKey": {
            "partitionBy": [part.name for part in table.partition],
            "partitionSort": {name: -1 if falls else 1 for name, falls in table.clustering},
        },
    }


def _plain_definition(cql: str, partition: list[str], order: list[str]) -> dict[str, Any]:
    """Return what ``cassandra.tables`` says in CQL of a table that is no model's."""
    key = {"partitionBy": partition, "partitionSort": dict.fromkeys(order, 1)}
    return {"columns": columns_of(cql), "primaryKey": key}
