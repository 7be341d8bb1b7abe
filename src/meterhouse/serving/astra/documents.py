"""The replica in a collection of the Data API: a JSON document for each row of every table.

One collection, since a database may have ten, and there are more tables than that. The
``_id`` is made of table and key, so that the same row is always the same document. A
value is what the embedded store has: decimals, days and times as text, exactly. A document
carries the order of its last change, and one is replaced or deleted only where it is not of
a later one, which the database itself sees to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from meterhouse.errors import EnvironmentFailureError
from meterhouse.serving.astra.claims import Claim
from meterhouse.serving.astra.connection import ApiSession, codes_of
from meterhouse.serving.astra.reading import pages, taken_by
from meterhouse.serving.cassandra.layout import AS_OF, REPLICA, CqlColumn, CqlTable
from meterhouse.serving.cassandra.stamps import write_order
from meterhouse.serving.partitioned import ReplicaSnapshot
from meterhouse.serving.replication import Change, ReplicaPosition, Replication
from meterhouse.serving.schema import NULL_KEY, Condition, StoredColumn, decoder

__all__ = ["DocumentsReplica", "DocumentsSnapshot"]

_NAME: Final = "serving"
_FIELDS: Final = tuple(one.name for one in fields(ReplicaPosition))
ROWS: Final = "gold"
"""The collection of the rows; beside it is that of the position."""
_TABLE: Final = "_table"
_ORG: Final = "org_id"
_ORDER: Final = "_version"
"""Field of a document: ``stamps.write_order`` of its last change."""
_EXISTS: Final = "DOCUMENT_ALREADY_EXISTS"
_PIECE: Final = 1_000
"""Documents between two looks at who else writes."""
_TOGETHER: Final = 50
"""Documents a request."""
_ASKED: Final = 100
"""Documents asked for by their ``_id`` in one request: the most that the API takes."""
_EXACT: Final = 2**53
"""Whole numbers beyond are text: a reader of JSON may take numbers for doubles."""


def _position(session: ApiSession) -> ReplicaPosition | None:
    if REPLICA not in session.run(session.database.list_collection_names):
        return None
    collection = session.collection(REPLICA)
    found = session.run(lambda: collection.find_one({"_id": _NAME}))
    return ReplicaPosition(*[found[name] for name in _FIELDS]) if found else None


class _Marks:
    """Marks of writers, as documents beside the position."""

    def __init__(self, session: ApiSession) -> None:
        self._session = session
        self._collection = session.collection(REPLICA)

    def names(self) -> set[str]:
        rows = pages(self._session, self._collection, {}, {"_id": True})
        return {row["_id"] for row in rows} - {_NAME}

    def put(self, name: str) -> None:
        _insert(self._session, self._collection, [{"_id": name}])

    def remove(self, name: str) -> None:
        self._session.run(lambda: self._collection.delete_one({"_id": name}))


class DocumentsReplica(Replication):
    """The gold tables of one embedded store, kept as documents."""

    lists_orgs = False

    def __init__(
        self,
        session: ApiSession,
        tables: Mapping[str, tuple[CqlTable, ...]],
        new_name: Callable[[], str],
    ) -> None:
        """Keep ``tables`` (``cassandra.tables.cql_tables``), of each model the first.

        Args:
            session: In the keyspace.
            tables: By gold model.
            new_name: Returns a name for a writer's mark that nobody has had.
        """
        self.session = session
        self.tables = {model: found[:1] for model, found in tables.items()}
        self.claim = Claim(_Marks(session), new_name, session.where)

    @property
    def where(self) -> str:
        """The database, as messages name it."""
        return self.session.where

    def label(self) -> str:
        """Return what the replica is in, for people."""
        return "Data API (collections)"

    def position(self) -> ReplicaPosition | None:
        """Return up to where the replica is; None while it is empty or being made."""
        return _position(self.session)

    def make_tables(self) -> bool:
        """Make what is missing; return whether a collection had to be made."""
        database = self.session.database
        wanted = {ROWS: [_TABLE, _ORG, _ORDER], REPLICA: [_ORDER]}
        names = [table.name for found in self.tables.values() for table in found]
        tables = self.session.run(database.list_table_names)
        taken_by(tables, [*wanted, *names], "table", self.where)
        there = set(self.session.run(database.list_collection_names))
        missing = [name for name in wanted if name not in there]
        for name in missing:
            definition = {"indexing": {"allow": wanted[name]}}
            self.session.run(
                lambda name=name, definition=definition: database.create_collection(  # type: ignore[misc]
                    name, definition=definition
                )
            )
        return bool(missing)

    def writer(self, table: CqlTable) -> Documents:
        """Return what writes the documents of ``table``."""
        return Documents(self.session, table, self.claim)

    def rows(self, table: CqlTable) -> Iterator[tuple[Any, ...]]:
        """Yield every row of ``table``: its columns, in their order, as Python values."""
        return _read(self.session, table, table.columns, {})

    def begin(self) -> str:
        """Say that we write; return why all of it has to be written, or nothing."""
        return self.claim.begin()

    def end(self) -> None:
        """Say that all was written, and the position too."""
        self.claim.end()

    def forget(self) -> None:
        """Delete the position, so that no answer is given; then all rows, in one request."""
        for name in (REPLICA, ROWS):
            collection = self.session.collection(name)
            self.session.run(lambda collection=collection: collection.delete_many({}))  # type: ignore[misc]

    def list_orgs(self, orgs: Sequence[str], target: ReplicaPosition) -> None:
        """List none: a collection can be read whole."""

    def stand(self, target: ReplicaPosition) -> None:
        """Write the position, unless a later one is there.

        Raises:
            EnvironmentFailureError: There is.
        """
        self.claim.check()
        order = write_order(target.generation, target.position)
        document = {"_id": _NAME, _ORDER: order, **asdict(target)}
        collection = self.session.collection(REPLICA)
        if _put(self.session, collection, [document]):
            return
        raise EnvironmentFailureError(
            "another writer has brought the replica further meanwhile",
            self.where,
            "run it again: meterhouse serving sync",
        )


class Documents:
    """Writes and lists the documents of one table."""

    def __init__(self, session: ApiSession, table: CqlTable, claim: Claim) -> None:
        self._session = session
        self._claim = claim
        self._remote = session.collection(ROWS)
        self._table = table.name
        self._mine = {_TABLE: table.name}
        self._names = [column.name for column in table.columns]
        self._values = [_sent(column) for column in table.columns]
        key = [part.column for part in table.partition] + [name for name, _ in table.clustering]
        self._key = [self._names.index(name) for name in dict.fromkeys(key)]

    def key_of(self, row: Sequence[Any]) -> str:
        """Return the ``_id`` of a row of the embedded store: table and key as a JSON list."""
        key = [self._table, *(self._values[place](row[place]) for place in self._key)]
        return json.dumps(key, ensure_ascii=False, separators=(",", ":"))

    def write(self, changes: Iterable[Change], generation: int) -> int:
        """Write rows and delete those that are gone; return how many of both.

        Idempotent. What is there from a later change stays.
        """
        listed = list(changes)
        for start in range(0, len(listed), _PIECE):
            self._claim.check()
            piece = listed[start : start + _PIECE]
            documents = [
                self._document(row, position, generation)
                for row, position, gone in piece
                if not gone
            ]
            _put(self._session, self._remote, documents)
            self._drop(
                [
                    (self.key_of(row), write_order(generation, position))
                    for row, position, gone in piece
                    if gone
                ]
            )
        return len(listed)

    def keys(self) -> Iterator[str]:
        """Yield the ``_id`` of every document that is there."""
        for found in pages(self._session, self._remote, self._mine, {"_id": True}):
            yield found["_id"]

    def delete(self, keys: Sequence[str], generation: int, position: int) -> None:
        """Delete documents, unless they are of a later change."""
        order = write_order(generation, position)
        for start in range(0, len(keys), _PIECE):
            self._claim.check()
            self._drop([(key, order) for key in keys[start : start + _PIECE]])

    def empty(self) -> None:
        """Delete every document, whoever wrote it."""
        self._session.run(lambda: self._remote.delete_many(self._mine))

    def _document(self, row: Sequence[Any], position: int, generation: int) -> dict[str, Any]:
        values = {
            name: send(value)
            for name, send, value in zip(self._names, self._values, row, strict=True)
        }
        return {
            "_id": self.key_of(row),
            **self._mine,
            **values,
            AS_OF: position,
            _ORDER: write_order(generation, position),
        }

    def _drop(self, keys: Sequence[tuple[str, int]]) -> None:
        filters = [_not_later(key, order) for key, order in keys]
        self._session.each(
            [lambda one=one: self._remote.delete_one(one) for one in filters]  # type: ignore[misc]
        )


class DocumentsSnapshot(ReplicaSnapshot):
    """``schema.Snapshot`` over collections of the Data API."""

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
        """Yield ``columns`` of the documents of the organisation that is asked for, or of all."""
        [table] = self._tables[model]
        where = {
            term.column: term.value
            for term in conditions
            if term.operator == "=" and term.column == _ORG
        }
        return _read(self._session, table, columns, where)


def _sent(column: CqlColumn) -> Callable[[Any], Any]:
    def sent(value: Any) -> Any:
        if value is None or value == NULL_KEY:
            return None
        if column.kind == "boolean":
            return bool(value)
        if column.kind == "integer" and abs(int(value)) > _EXACT:
            return str(value)
        return value

    return sent


def _read(
    session: ApiSession, table: CqlTable, columns: Sequence[CqlColumn], where: dict[str, Any]
) -> Iterator[tuple[Any, ...]]:
    remote = session.collection(ROWS)
    convert = [
        decoder(StoredColumn(column.name, column.kind, "TEXT"), session.where) for column in columns
    ]
    wanted = {column.name: True for column in columns}
    for found in pages(session, remote, {_TABLE: table.name, **where}, wanted):
        yield tuple(
            [read(found.get(column.name)) for read, column in zip(convert, columns, strict=True)]
        )


def _not_later(key: str, order: int) -> dict[str, Any]:
    return {"_id": key, _ORDER: {"$lte": order}}


def _put(session: ApiSession, remote: Any, documents: Sequence[dict[str, Any]]) -> int:
    """Make documents be there, unless what is there is of a later change.

    One that is there as it should be is not written again: to write is dear, since the
    database compares, and to read a hundred is one request.

    Returns:
        How many are there now as they were given.
    """
    present = _present(session, remote, [one["_id"] for one in documents])
    there = _insert(session, remote, [one for one in documents if one["_id"] not in present])
    others = [
        one
        for one in documents
        if one["_id"] in there or (one["_id"] in present and not _same(one, present[one["_id"]]))
    ]
    replaced = session.each(
        [
            lambda one=one: int(  # type: ignore[misc]
                remote.replace_one(_not_later(one["_id"], one[_ORDER]), one).update_info["n"]
            )
            for one in others
        ]
    )
    return len(documents) - len(others) + sum(replaced)


def _present(session: ApiSession, remote: Any, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the documents that are there, by their ``_id``."""
    pieces = [ids[start : start + _ASKED] for start in range(0, len(ids), _ASKED)]
    found = session.each(
        [
            lambda piece=piece: list(remote.find({"_id": {"$in": piece}}))  # type: ignore[misc]
            for piece in pieces
        ]
    )
    return {one["_id"]: one for page in found for one in page}


def _same(document: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two documents differ at most in which change they are of."""
    return all(
        other.get(name) == value for name, value in document.items() if name not in (AS_OF, _ORDER)
    ) and not set(other) - set(document)


def _insert(session: ApiSession, remote: Any, documents: Sequence[dict[str, Any]]) -> set[str]:
    """Insert documents; return the ``_id``s of those that were there already."""
    from astrapy.exceptions import CollectionInsertManyException

    if not documents:
        return set()

    def insert() -> set[str]:
        try:
            remote.insert_many(documents, ordered=False, chunk_size=_TOGETHER)
        except CollectionInsertManyException as error:
            if set(codes_of(error)) != {_EXISTS}:
                raise
            return {one["_id"] for one in documents} - set(error.inserted_ids)
        return set()

    return session.run(insert)
