"""Bronze: the judged rows as tables, one per verdict that is kept. SQL as data.

Rows in and out are the same: nothing is joined, grouped or dropped here but by verdict.
Defaults and derived columns of the contract are applied here, since judged files hold
what was delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Final

import pyarrow as pa

from meterhouse.intake.contract import SQL_TYPES, ColumnType, Contract
from meterhouse.intake.values import ARROW_TYPES
from meterhouse.names import ACCEPTED, QUARANTINED, REMOVED

__all__ = [
    "REMOVED_KEYS",
    "accepted_sql",
    "bronze_schemas",
    "bronze_sha256",
    "current_name",
    "current_sql",
    "key_text",
    "latest_removed_sql",
    "latest_sql",
    "quarantine_sql",
    "removed_sql",
]

REMOVED_KEYS: Final = "bronze.removed_keys"
"""One row for each key that a snapshot no longer held."""

_TECHNICAL: Final[tuple[tuple[str, ColumnType], ...]] = (
    ("log_position", "integer"),
    ("row_number", "integer"),
    ("source_file", "text"),
    ("source_line", "integer"),
    ("ingest_ts", "timestamp"),
)
_KEPT: Final = (("extra", "VARCHAR"), ("unreadable", "VARCHAR"), ("flags", "VARCHAR[]"))
"""Undeclared fields, values of declared ones that could not be read (both JSON text), and
the names of the flag and repair rules that fired; NULL where there are none."""

_REVISION: Final = "bronze 1"
"""Raise it when this module gives other rows for the same judged files."""


def accepted_sql(contract: Contract, relation: str, present: Collection[str]) -> str:
    """Return the SELECT of the accepted rows: contract's columns, derived, technical, kept.

    Args:
        contract: The contract in force.
        relation: Judged rows of its source.
        present: Columns that ``relation`` has; a column that a former contract did not
            declare is NULL (then its default).
    """
    delivered = [
        _with_default(_delivered(column.name, column.type, present), column.type, column.default)
        + f" AS {_quoted(column.name)}"
        for column in contract.columns
    ]
    others = [*_technical(), *_kept(present)]
    inner = (
        f"SELECT {', '.join([*delivered, *others])} FROM {relation} WHERE verdict = '{ACCEPTED}'"
    )
    names = [_quoted(column.name) for column in contract.columns]
    derived = [
        f"({one.sql})::{SQL_TYPES[one.type]} AS {_quoted(one.name)}" for one in contract.derived
    ]
    return f"SELECT {', '.join([*names, *derived, *_names_after()])} FROM ({inner}) AS delivered"


def quarantine_sql(contract: Contract, relation: str, present: Collection[str]) -> str:
    """Return the SELECT of the held rows: why, the raw bytes, and what could be read."""
    columns = [
        f"{_delivered(column.name, column.type, present)} AS {_quoted(column.name)}"
        for column in contract.columns
    ]
    selected = [
        *_technical(),
        "invalid_reason",
        "broken_rules",
        f"{_RAW_TEXT} AS raw_text",
        "raw",
        *columns,
        *_kept(present),
    ]
    return f"SELECT {', '.join(selected)} FROM {relation} WHERE verdict = '{QUARANTINED}'"


def removed_sql(contract: Contract, relation: str) -> str:
    """Return the SELECT of the keys that snapshots of this source no longer held."""
    return (
        f"SELECT '{contract.source}' AS source, {key_text(contract)} AS key, log_position, "
        f"row_number, ingest_ts FROM {relation} WHERE verdict = '{REMOVED}'"
    )


def current_name(contract: Contract) -> str:
    """Return the name under which models read the current version of each key."""
    return f"{contract.table}_current"


def current_sql(contract: Contract) -> str:
    """Return the SELECT of the current version of each present key of a versioned source.

    Last logged wins, or the larger value of the contract's version column; a key that
    vanished from a snapshot after its last version is not there.
    """
    return (
        f"{latest_sql(contract)} AND NOT EXISTS (SELECT 1 FROM {REMOVED_KEYS} AS gone "
        f"WHERE gone.source = '{contract.source}' AND gone.key = {key_text(contract)} "
        "AND (gone.log_position, gone.row_number) > (version.log_position, version.row_number))"
    )


def latest_sql(contract: Contract) -> str:
    """Return the SELECT of the version of each key that wins, of keys that are gone too.

    With ``latest_removed_sql`` all that later versions have to be compared with: the current
    versions of these rows and later ones are those of all rows.
    """
    order = "log_position DESC, row_number DESC"
    if contract.version_column:
        order = f"{_quoted(contract.version_column)} DESC NULLS LAST, {order}"
    key = ", ".join(_quoted(column) for column in contract.key)
    latest = (
        f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS version_rank "
        f"FROM {contract.table}"
    )
    return (
        f"SELECT version.* EXCLUDE (version_rank) FROM ({latest}) AS version WHERE version_rank = 1"
    )


def latest_removed_sql(contract: Contract) -> str:
    """Return the SELECT of the last removal of each key of one source."""
    return (
        "SELECT removal.* EXCLUDE (removal_rank) FROM (SELECT *, row_number() OVER "
        "(PARTITION BY key ORDER BY log_position DESC, row_number DESC) AS removal_rank "
        f"FROM {REMOVED_KEYS} WHERE source = '{contract.source}') AS removal "
        "WHERE removal_rank = 1"
    )


def bronze_schemas(contracts: Mapping[str, Contract]) -> dict[str, pa.Schema]:
    """Return every relation of bronze with its schema, those never delivered included.

    Lake tables, and the ``_current`` views that only models see.
    """
    found: dict[str, pa.Schema] = {REMOVED_KEYS: _removed_schema()}
    for contract in contracts.values():
        found[contract.table] = _accepted_schema(contract)
        found[contract.quarantine] = _quarantine_schema(contract)
        if contract.mode != "append":
            found[current_name(contract)] = _accepted_schema(contract)
    return dict(sorted(found.items()))


def bronze_sha256(contract: Contract) -> str:
    """Return what changes when the contract would give other bronze rows of the same log.

    Rules are not part of it: verdicts are stored, a changed rule holds for what lands after.
    """
    known = [column.name for column in contract.columns]
    parts = (
        _REVISION,
        accepted_sql(contract, "judged", known),
        quarantine_sql(contract, "judged", known),
        ",".join(contract.partition_by),
        ",".join(contract.key),
    )
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()


def _accepted_schema(contract: Contract) -> pa.Schema:
    fields = [(column.name, ARROW_TYPES[column.type]) for column in contract.columns]
    fields += [(one.name, ARROW_TYPES[one.type]) for one in contract.derived]
    return pa.schema([*fields, *_technical_fields(), *_KEPT_FIELDS])


def _quarantine_schema(contract: Contract) -> pa.Schema:
    return pa.schema(
        [
            *_technical_fields(),
            ("invalid_reason", pa.string()),
            ("broken_rules", pa.list_(pa.string())),
            ("raw_text", pa.string()),
            ("raw", pa.binary()),
            *((column.name, ARROW_TYPES[column.type]) for column in contract.columns),
            *_KEPT_FIELDS,
        ]
    )


def _removed_schema() -> pa.Schema:
    return pa.schema(
        [
            ("source", pa.string()),
            ("key", pa.string()),
            ("log_position", pa.int64()),
            ("row_number", pa.int64()),
            ("ingest_ts", pa.timestamp("us", tz="UTC")),
        ]
    )


_KEPT_FIELDS: Final = (
    ("extra", pa.string()),
    ("unreadable", pa.string()),
    ("flags", pa.list_(pa.string())),
)


def _technical_fields() -> list[tuple[str, pa.DataType]]:
    return [(name, ARROW_TYPES[kind]) for name, kind in _TECHNICAL]


def _technical() -> list[str]:
    return [f"{name}::{SQL_TYPES[kind]} AS {name}" for name, kind in _TECHNICAL]


def _kept(present: Collection[str]) -> list[str]:
    return [
        f"{name if name in present else 'NULL'}::{sql_type} AS {name}" for name, sql_type in _KEPT
    ]


def _names_after() -> list[str]:
    return [name for name, _ in (*_TECHNICAL, *_KEPT)]


def _delivered(name: str, kind: ColumnType, present: Collection[str]) -> str:
    return f"{_quoted(name) if name in present else 'NULL'}::{SQL_TYPES[kind]}"


def _with_default(expression: str, kind: ColumnType, default: str | None) -> str:
    if default is None:
        return expression
    return f"coalesce({expression}, ({default})::{SQL_TYPES[kind]})"


def key_text(contract: Contract) -> str:
    """Return the SQL of a row's key as a JSON list of texts: ["org_1"]."""
    parts = ", ".join(f"{_quoted(column)}::VARCHAR" for column in contract.key)
    return f"to_json([{parts}])::VARCHAR"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_PRINTABLE: Final = "[2-6][0-9A-F]|7[0-9A-E]"
_MORE: Final = "[89AB][0-9A-F]"
_CHARACTERS: Final = "|".join(
    (
        _PRINTABLE,
        f"(?:C[2-9A-F]|D[0-9A-F]){_MORE}",
        f"E0[AB][0-9A-F]{_MORE}",
        f"E[1-9A-CEF](?:{_MORE}){{2}}",
        f"ED[89][0-9A-F]{_MORE}",
        f"F0[9AB][0-9A-F](?:{_MORE}){{2}}",
        f"F[1-3](?:{_MORE}){{3}}",
        f"F48[0-9A-F](?:{_MORE}){{2}}",
    )
)
"""UTF-8 (RFC 3629, section 4) over the hexadecimal digits of the bytes, controls left out."""

_ESCAPED: Final = (
    f"array_to_string(list_transform(regexp_extract_all(hex(raw), '(?:{_CHARACTERS})+|..'), "
    f"lambda part: CASE WHEN length(part) > 2 OR regexp_matches(part, '^(?:{_PRINTABLE})$') "
    "THEN decode(unhex(part)) ELSE '\\x' || lower(part) END), '')"
)


def _controls_escaped(text: str) -> str:
    for code in (*range(32), 127):
        text = f"replace({text}, chr({code}), '\\x{code:02x}')"
    return text


_LARGE: Final = 1 << 20
"""Bytes of a record above which, if it is not UTF-8, everything but printable ASCII is
escaped: the exact way takes many times the record's size in memory."""


_ALL_ESCAPED: Final = (
    "replace(replace(replace(raw::VARCHAR, '\\x22', '\"'), '\\x27', ''''), '\\x5C', '\\')"
)
"""As the engine prints bytes (with capital digits), quotes and backslash as they are."""

_RAW_TEXT: Final = f"""CASE
    WHEN raw IS NULL THEN NULL
    WHEN TRY(decode(raw)) IS NULL AND octet_length(raw) > {_LARGE} THEN
        {_ALL_ESCAPED}
    WHEN TRY(decode(raw)) IS NULL THEN {_ESCAPED}
    WHEN regexp_matches(decode(raw), '[\\x00-\\x1f\\x7f]') THEN {_controls_escaped("decode(raw)")}
    ELSE decode(raw)
END"""
