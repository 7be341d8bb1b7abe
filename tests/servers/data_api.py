"""A stand-in for the Data API: its wire format, as astrapy speaks it, before a real Cassandra.

It is neither DataStax's server nor Astra DB: it shows that astrapy sends what the adapter
means, and that rows come back as they went. What it takes and gives was captured from
astrapy; what the real server refuses is refused here where DataStax's documents say so. A
table is a table of Cassandra; a collection is one with a document and the id of its last
change, by which writes are made conditional as the real one's are (lightweight
transactions).
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import sys
import threading
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy

from servers.cassandra import Node

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_ZERO = 719_163
CENTRE = 2**31
FIRST_DAY = "-5877641-06-23"
PAGE = 100
MOST_DOCUMENTS = 100
"""In one insertMany."""
DELETED = 20
"""Documents that one deleteMany with a filter deletes; it says when there are more."""
MOST_COLLECTIONS = 10
MOST_INDEXES = 10
"""Fields of a collection that may be named for filters."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
COLLECTION = {
    "key": "text",
    "doc_json": "text",
    "tx_id": "uuid",
    "query_text_values": "map<text, text>",
}

Command = Callable[[str, str, dict[str, Any]], dict[str, Any]]


class RefusedError(Exception):
    """An answer with ``errors``."""

    def __init__(self, code: str, title: str, family: str = "REQUEST") -> None:
        super().__init__(code)
        self.body = {
            "errorCode": code,
            "title": title,
            "message": title,
            "family": family,
            "scope": "",
            "id": str(uuid.uuid4()),
        }


class Rows:
    """Commands on tables and collections, turned into CQL."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.seen: list[str] = []
        """Names of the commands that came."""
        self.trouble: list[Callable[[str, str], None]] = []
        """Asked before every command, with its name and the table's; may raise or wait."""
        self._prepared: dict[str, Any] = {}
        self._schema: dict[tuple[str, ...], Any] = {}
        """What system_schema said; forgotten when a table is made or dropped."""
        self._lock = threading.Lock()

    def answer(self, keyspace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        [(command, given)] = body.items()
        self.seen.append(command)
        for ask in list(self.trouble):
            ask(command, name)
        if not self._said(
            "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", keyspace
        ):
            raise RefusedError("KEYSPACE_DOES_NOT_EXIST", "The keyspace does not exist")
        if not name:
            return self._of_keyspace()[command](keyspace, "", given)
        kind = self._kind(keyspace, name)
        if kind is None:
            raise RefusedError("COLLECTION_NOT_EXIST", "The collection or table does not exist")
        commands = self._of_table() if kind == "table" else self._of_collection()
        if command not in commands:
            raise RefusedError("UNSUPPORTED_COMMAND", f"A {kind} does not take this command")
        return commands[command](keyspace, name, given)

    def _of_keyspace(self) -> dict[str, Command]:
        return {
            "createTable": self.create_table,
            "listTables": self.list_tables,
            "dropTable": self.drop_table,
            "createCollection": self.create_collection,
            "findCollections": self.find_collections,
        }

    def _of_table(self) -> dict[str, Command]:
        return {
            "insertOne": self.insert_rows,
            "insertMany": self.insert_rows,
            "find": self.find_rows,
            "findOne": self.find_rows,
            "deleteOne": self.delete_rows,
            "deleteMany": self.delete_rows,
        }

    def _of_collection(self) -> dict[str, Command]:
        return {
            "insertOne": self.insert_documents,
            "insertMany": self.insert_documents,
            "find": self.find_documents,
            "findOne": self.find_documents,
            "findOneAndReplace": self.replace_document,
            "deleteOne": self.delete_document,
            "deleteMany": self.delete_documents,
        }

    # Cassandra

    def _rows(self, cql: str, *values: object, fetch: int = 5000, state: str = "") -> Any:
        with self._lock:
            if cql not in self._prepared:
                self._prepared[cql] = self.session.prepare(cql)
        bound = self._prepared[cql].bind(values)
        bound.fetch_size = fetch
        if fetch == PAGE:
            found = self.session.execute(bound, paging_state=bytes.fromhex(state) or None)
            return found.current_rows, found.paging_state
        return list(self.session.execute(bound))

    def _said(self, cql: str, *values: str) -> Any:
        """Rows of system_schema, asked for once."""
        if (cql, *values) not in self._schema:
            self._schema[(cql, *values)] = self._rows(cql, *values)
        return self._schema[(cql, *values)]

    def _define(self, cql: str) -> None:
        self.session.execute(cql)
        self._schema.clear()

    def _columns(self, keyspace: str, name: str) -> dict[str, str]:
        cql = (
            "SELECT column_name, type FROM system_schema.columns "
            "WHERE keyspace_name = ? AND table_name = ?"
        )
        return {row.column_name: row.type for row in self._said(cql, keyspace, name)}

    def _key(self, keyspace: str, name: str) -> tuple[list[str], list[str]]:
        cql = (
            "SELECT column_name, kind, position FROM system_schema.columns "
            "WHERE keyspace_name = ? AND table_name = ?"
        )
        found = sorted(self._said(cql, keyspace, name), key=lambda row: row.position)
        return (
            [row.column_name for row in found if row.kind == "partition_key"],
            [row.column_name for row in found if row.kind == "clustering"],
        )

    def _kind(self, keyspace: str, name: str) -> str | None:
        columns = self._columns(keyspace, name)
        if not columns:
            return None
        return "collection" if columns == COLLECTION else "table"

    def _names(self, keyspace: str, kind: str) -> list[str]:
        cql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"
        names = [row.table_name for row in self._said(cql, keyspace)]
        return [name for name in names if self._kind(keyspace, name) == kind]

    # tables

    def create_table(self, keyspace: str, _: str, given: dict[str, Any]) -> dict[str, Any]:
        name, definition = check_name(given["name"]), given["definition"]
        if self._kind(keyspace, name) is not None:
            if given.get("options", {}).get("ifNotExists"):
                return {"status": {"ok": 1}}
            raise RefusedError("CANNOT_ADD_EXISTING_TABLE", "The table is there", "REQUEST")
        columns = [f'"{column}" {kind}' for column, kind in definition["columns"].items()]
        key = definition["primaryKey"]
        partition = ", ".join(f'"{column}"' for column in key["partitionBy"])
        order = key.get("partitionSort", {})
        rest = "".join(f', "{column}"' for column in order)
        orders = ", ".join(f'"{c}" {"ASC" if way == 1 else "DESC"}' for c, way in order.items())
        self._define(
            f'CREATE TABLE "{keyspace}"."{name}" ({", ".join(columns)}, '
            f"PRIMARY KEY (({partition}){rest}))"
            + (f" WITH CLUSTERING ORDER BY ({orders})" if orders else "")
        )
        return {"status": {"ok": 1}}

    def list_tables(self, keyspace: str, _: str, given: dict[str, Any]) -> dict[str, Any]:
        names = self._names(keyspace, "table")
        if not given.get("options", {}).get("explain"):
            return {"status": {"tables": names}}
        return {"status": {"tables": [self._described(keyspace, name) for name in names]}}

    def _described(self, keyspace: str, name: str) -> dict[str, Any]:
        partition, order = self._key(keyspace, name)
        columns = self._columns(keyspace, name)
        return {
            "name": name,
            "definition": {
                "columns": {column: {"type": kind} for column, kind in columns.items()},
                "primaryKey": {"partitionBy": partition, "partitionSort": dict.fromkeys(order, 1)},
            },
        }

    def drop_table(self, keyspace: str, _: str, given: dict[str, Any]) -> dict[str, Any]:
        self._define(f'DROP TABLE "{keyspace}"."{check_name(given["name"])}"')
        return {"status": {"ok": 1}}

    def insert_rows(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        columns = self._columns(keyspace, name)
        partition, order = self._key(keyspace, name)
        key = [*partition, *order]
        responses = []
        for row in documents_of(given):
            if unknown := [column for column in row if column not in columns]:
                raise RefusedError("UNKNOWN_TABLE_COLUMNS", f"Unknown columns {len(unknown)}")
            if [column for column in key if row.get(column) in (None, "")]:
                raise RefusedError("MISSING_PRIMARY_KEY_COLUMNS", "A key column is missing")
            listed = ", ".join(f'"{column}"' for column in row)
            marks = ", ".join("?" * len(row))
            self._rows(
                f'INSERT INTO "{keyspace}"."{name}" ({listed}) VALUES ({marks})',
                *[bound(value, columns[column]) for column, value in row.items()],
            )
            responses.append({"_id": [row[column] for column in key], "status": "OK"})
        schema = {column: {"type": columns[column]} for column in key}
        if "document" in given:
            ids = [one["_id"] for one in responses]
            return {"status": {"insertedIds": ids, "primaryKeySchema": schema}}
        return {"status": {"documentResponses": responses, "primaryKeySchema": schema}}

    def find_rows(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        columns = self._columns(keyspace, name)
        wanted = [column for column, there in given.get("projection", {}).items() if there]
        wanted = wanted or list(columns)
        where, values = self._where(keyspace, name, given.get("filter", {}))
        rows, state = self._rows(
            f'SELECT {", ".join(map(quote, wanted))} FROM "{keyspace}"."{name}"{where}',
            *values,
            fetch=PAGE,
            state=given.get("options", {}).get("pageState", ""),
        )
        found = [
            {
                column: as_json(value, columns[column])
                for column, value in zip(wanted, row, strict=True)
                if value is not None
            }
            for row in rows
        ]
        schema = {column: {"type": columns[column]} for column in wanted}
        data = {
            "document": found[0] if found else None,
            "documents": found,
            "nextPageState": state.hex() if state else None,
        }
        return {"data": data, "status": {"projectionSchema": schema}}

    def delete_rows(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if not given["filter"]:
            self.session.execute(f'TRUNCATE TABLE "{keyspace}"."{name}"')
        else:
            partition, order = self._key(keyspace, name)
            if set(given["filter"]) != {*partition, *order}:
                raise RefusedError("MISSING_FULL_PRIMARY_KEY", "The filter is not a whole key")
            where, values = self._where(keyspace, name, given["filter"])
            self._rows(f'DELETE FROM "{keyspace}"."{name}"{where}', *values)
        return {"status": {"deletedCount": -1}}

    def _where(
        self, keyspace: str, name: str, given: Mapping[str, Any]
    ) -> tuple[str, list[object]]:
        """Turn a filter into CQL; one that Cassandra would have to filter for is refused."""
        if not given:
            return "", []
        columns = self._columns(keyspace, name)
        partition, order = self._key(keyspace, name)
        if not set(partition) <= set(given) or not set(given) <= {*partition, *order}:
            raise RefusedError("UNSUPPORTED_FILTER", "The stand-in reads by key only")
        operators = {"$eq": "=", "$gte": ">=", "$lte": "<=", "$gt": ">", "$lt": "<"}
        terms, values = [], []
        for column, condition in given.items():
            asked = condition if is_condition(condition) else {"$eq": condition}
            for operator, value in asked.items():
                terms.append(f"{quote(column)} {operators[operator]} ?")
                values.append(bound(value, columns[column]))
        return f" WHERE {' AND '.join(terms)}", values

    # collections

    def create_collection(self, keyspace: str, _: str, given: dict[str, Any]) -> dict[str, Any]:
        name = check_name(given["name"])
        allowed = given.get("options", {}).get("indexing", {}).get("allow", [])
        if len(allowed) > MOST_INDEXES:
            raise RefusedError("TOO_MANY_INDEXES", "Too many indexed fields")
        kind = self._kind(keyspace, name)
        if kind == "table":
            raise RefusedError("EXISTING_TABLE_NOT_DATA_API_COLLECTION", "A table is there")
        if len(self._names(keyspace, "collection")) >= MOST_COLLECTIONS:
            raise RefusedError("TOO_MANY_COLLECTIONS", "Too many collections")
        if kind is None:
            comment = json.dumps(allowed).replace("'", "")
            self._define(
                f'CREATE TABLE "{keyspace}"."{name}" '
                "(key text PRIMARY KEY, doc_json text, tx_id uuid, "
                f"query_text_values map<text, text>) WITH comment = '{comment}'"
            )
            self._define(
                f'CREATE INDEX "{name}_text" ON "{keyspace}"."{name}" '
                "(ENTRIES(query_text_values)) USING 'sai'"
            )
        return {"status": {"ok": 1}}

    def find_collections(self, keyspace: str, _: str, given: dict[str, Any]) -> dict[str, Any]:
        del given
        return {"status": {"collections": self._names(keyspace, "collection")}}

    def _allowed(self, keyspace: str, name: str) -> set[str]:
        cql = "SELECT comment FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?"
        return {"_id", *json.loads(self._said(cql, keyspace, name)[0].comment)}

    def insert_documents(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        responses, errors = [], []
        allowed = self._allowed(keyspace, name)
        for document in documents_of(given):
            inserted = self._rows(
                f'INSERT INTO "{keyspace}"."{name}" (key, doc_json, tx_id, query_text_values) '
                "VALUES (?, ?, ?, ?) IF NOT EXISTS",
                document["_id"],
                dumps(document),
                uuid.uuid4(),
                texts_of(document, allowed),
            )
            response = {"_id": document["_id"], "status": "OK"}
            if not inserted[0].applied:
                refused = RefusedError("DOCUMENT_ALREADY_EXISTS", "A document has this _id")
                response |= {"status": "ERROR", "errorsIdx": len(errors)}
                errors.append(refused.body)
            responses.append(response)
        if "document" in given:
            status: dict[str, Any] = {
                "insertedIds": [one["_id"] for one in responses if one["status"] == "OK"]
            }
        else:
            status = {"documentResponses": responses}
        return {"status": status, **({"errors": errors} if errors else {})}

    def _documents(
        self, keyspace: str, name: str, given: Mapping[str, Any], state: str
    ) -> tuple[list[tuple[dict[str, Any], Any]], str | None]:
        """Return a page of documents that meet a filter, each with the id of its last change."""
        if unindexed := set(given) - self._allowed(keyspace, name):
            raise RefusedError("UNINDEXED_FILTER_PATH", f"Not indexed: {len(unindexed)}")
        texts = texts_of(given, set(given))
        cql = f'SELECT doc_json, tx_id FROM "{keyspace}"."{name}"'
        if isinstance(given.get("_id"), str):
            rows, after = self._rows(f"{cql} WHERE key = ?", given["_id"], fetch=PAGE)
        elif "$in" in given.get("_id", {}):
            asked = given["_id"]["$in"]
            if len(asked) > MOST_DOCUMENTS:
                raise RefusedError("FILTER_TOO_MANY_VALUES", "Too many values")
            rows, after = self._rows(f"{cql} WHERE key IN ?", asked, fetch=PAGE, state=state)
        elif texts:
            where = " AND ".join(f"query_text_values['{field}'] = ?" for field in texts)
            rows, after = self._rows(
                f"{cql} WHERE {where}", *texts.values(), fetch=PAGE, state=state
            )
        else:
            rows, after = self._rows(cql, fetch=PAGE, state=state)
        found = [(loads(row.doc_json), row.tx_id) for row in rows]
        kept = [(document, last) for document, last in found if meets(document, given)]
        return kept, after.hex() if after else None

    def find_documents(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        state = given.get("options", {}).get("pageState", "")
        found, after = self._documents(keyspace, name, given.get("filter", {}), state)
        wanted = [column for column, there in given.get("projection", {}).items() if there]
        documents = [
            {column: document[column] for column in wanted or document if column in document}
            for document, _ in found
        ]
        one = documents[0] if documents else None
        return {"data": {"documents": documents, "document": one, "nextPageState": after}}

    def replace_document(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        while True:
            found, _ = self._documents(keyspace, name, given["filter"], "")
            if not found:
                return {
                    "data": {"document": None},
                    "status": {"matchedCount": 0, "modifiedCount": 0},
                }
            document, last = found[0]
            after = {"_id": document["_id"], **given["replacement"]}
            done = self._rows(
                f'UPDATE "{keyspace}"."{name}" SET doc_json = ?, tx_id = ?, query_text_values = ? '
                "WHERE key = ? IF tx_id = ?",
                dumps(after),
                uuid.uuid4(),
                texts_of(after, self._allowed(keyspace, name)),
                document["_id"],
                last,
            )
            if done[0].applied:
                return {
                    "data": {"document": document},
                    "status": {"matchedCount": 1, "modifiedCount": int(after != document)},
                }

    def delete_document(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        while True:
            found, _ = self._documents(keyspace, name, given["filter"], "")
            if not found:
                return {"status": {"deletedCount": 0}}
            document, last = found[0]
            done = self._rows(
                f'DELETE FROM "{keyspace}"."{name}" WHERE key = ? IF tx_id = ?',
                document["_id"],
                last,
            )
            if done[0].applied:
                return {"status": {"deletedCount": 1}}

    def delete_documents(self, keyspace: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if not given["filter"]:
            self.session.execute(f'TRUNCATE TABLE "{keyspace}"."{name}"')
            return {"status": {"deletedCount": -1}}
        found: list[Any] = []
        after: str | None = ""
        while after is not None and len(found) < DELETED:
            more, after = self._documents(keyspace, name, given["filter"], after)
            found += more
        for document, _ in found[:DELETED]:
            self.delete_document(keyspace, name, {"filter": {"_id": document["_id"]}})
        count = min(len(found), DELETED)
        return {"status": {"deletedCount": count, "moreData": len(found) > DELETED}}


def check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise RefusedError("UNSUPPORTED_SCHEMA_NAME", "The name is not one of a table")
    return name


def documents_of(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    documents = [given["document"]] if "document" in given else given["documents"]
    if len(documents) > MOST_DOCUMENTS:
        raise RefusedError("REQUEST_TOO_MANY_DOCUMENTS", "Too many documents")
    return documents


def texts_of(document: Mapping[str, Any], allowed: set[str]) -> dict[str, str]:
    """The fields that a filter may name and that hold text, as the index has them."""
    return {
        name: value
        for name, value in document.items()
        if name in allowed and isinstance(value, str)
    }


def is_condition(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(name.startswith("$") for name in value)
        and ("$binary" not in value)
    )


def meets(document: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "$eq": lambda one, two: bool(one == two),
        "$in": lambda one, two: one in two,
        "$lte": lambda one, two: bool(one <= two),
        "$lt": lambda one, two: bool(one < two),
    }
    return all(
        column in document
        and document[column] is not None
        and tests[operator](document[column], value)
        for column, condition in given.items()
        for operator, value in (
            condition if is_condition(condition) else {"$eq": condition}
        ).items()
    )


def quote(name: str) -> str:
    return f'"{name}"'


def bound(value: Any, kind: str) -> Any:
    """A JSON value as the driver binds it."""
    if value is None:
        return None
    if kind == "date":
        if value == FIRST_DAY:
            return 0
        return date.fromisoformat(value).toordinal() - DAY_ZERO + CENTRE
    if kind == "timestamp":
        return (datetime.fromisoformat(value) - EPOCH) // timedelta(milliseconds=1)
    if kind == "decimal":
        return Decimal(value)
    if kind == "blob":
        return b64decode(value["$binary"])
    return value


def as_json(value: Any, kind: str) -> Any:
    """A value that the driver read as JSON."""
    if kind == "date":
        days = value.days_from_epoch
        return FIRST_DAY if days == -CENTRE else date.fromordinal(days + DAY_ZERO).isoformat()
    if kind == "timestamp":
        moment = value.replace(tzinfo=UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if kind == "blob":
        return {"$binary": b64encode(value).decode()}
    return value


def loads(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def dumps(value: Any) -> str:
    """JSON in which a Decimal is a number with all its digits."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, rows: Rows, token: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.rows = rows
        self.token = token
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked may be dead by now; that is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """End every connection, in the middle of whatever is said there."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = loads(self.rfile.read(int(self.headers["content-length"])))
        _, version, keyspace, *names = self.path.split("/")
        if version != "v1":
            self.answer(404, {})
        elif self.headers["token"] != self.server.token:
            refused = RefusedError("UNAUTHENTICATED_REQUEST", "The token is not one of ours")
            self.answer(401, {"errors": [refused.body]})
        else:
            try:
                found = self.server.rows.answer(keyspace, names[0] if names else "", body)
            except RefusedError as error:
                found = {"errors": [error.body]}
            self.answer(200, found)

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class StandIn:
    """The stand-in, running."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.token = f"AstraCS:{secrets.token_hex(12)}:{secrets.token_hex(32)}"
        """A secret: made for this run, and to be found in no output."""
        self._start(0)
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def _start(self, port: int) -> None:
        self._server = Server(self.rows, self.token, port)
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Answer no more, and hang up on who is being answered."""
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be gone, as a database that can't be reached; then be back with the rows it had."""
        self.close()
        try:
            yield
        finally:
            self._start(self._port)

    def keyspace(self) -> str:
        """Make one, as its user would on a database's page."""
        name = f"k{secrets.token_hex(6)}"
        one = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        self.rows.session.execute(f"CREATE KEYSPACE {name} WITH replication = {one}")
        return name


@contextmanager
def stand_in(node: Node) -> Iterator[StandIn]:
    """Run the stand-in before ``node``."""
    profile = ExecutionProfile(
        load_balancing_policy=WhiteListRoundRobinPolicy([node.address]),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=60,
    )
    with Cluster(
        [node.address],
        port=node.port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    ) as cluster:
        found = StandIn(Rows(cluster.connect()))
        try:
            yield found
        finally:
            found.close()
