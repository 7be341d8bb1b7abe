"""The reader behind ``contracts.py``: one YAML document in, one checked contract out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, Literal, TypeAlias, cast, get_args

from meterhouse.errors import nearest
from meterhouse.intake.contract import Column, ColumnType, Contract, Derived
from meterhouse.intake.contract_rules import check_rules, read_rules
from meterhouse.intake.document import Value, read_document, texts
from meterhouse.intake.expression import expression_columns
from meterhouse.names import SCALE, TECHNICAL, LoadMode

__all__ = ["RESERVED", "read_contract"]

NewColumn: TypeAlias = Literal["keep", "quarantine", "stop"]
Places: TypeAlias = dict[tuple[str, ...], Value]
"""("rules", name, "holds"), ("rules", name, "repair", column) or ("derived", column)
to where that expression stands."""
NEW_COLUMN: Final[tuple[str, ...]] = get_args(NewColumn)

RESERVED: Final = frozenset(TECHNICAL) | frozenset(
    ["verdict", "invalid_reason", "broken_rules", "flags", "raw", "raw_text", "extra", "unreadable"]
)
"""Columns that judged and bronze tables have of their own."""

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
TABLE: Final = re.compile(r"bronze\.[a-z][a-z0-9_]{0,62}")
CURRENCY: Final = re.compile(r"[A-Z]{3}")

TOP: Final = [
    "source",
    "description",
    "owner",
    "table",
    "quarantine",
    "files",
    "format",
    "mode",
    "key",
    "money",
    "currency",
    "version_column",
    "schema_version",
    "on_new_column",
    "partition_by",
    "shrink_limit",
    "round_decimals",
    "columns",
    "derived",
    "rules",
]
REQUIRED: Final = ("source", "files", "format", "mode", "key", "columns", "rules")
SHRINK_LIMIT: Final = "0.2"


def read_contract(text: str, where: str) -> tuple[Contract, Places]:
    """Read and check a contract; return also where its expressions stand.

    Raises:
        ContractError: It is not valid; the message names file, line and column.
    """
    fields = read_document(text, where).fields(TOP, REQUIRED)
    source = identifier(fields["source"])
    columns, known_values = read_columns(fields["columns"])
    names = [column.name for column in columns]
    derived, places = read_derived(fields.get("derived"), columns)
    mode = cast(LoadMode, fields["mode"].choice(get_args(LoadMode)))
    key = column_list(fields, "key", names)
    if not key:
        raise fields["key"].error(
            "key is empty", "name the columns that tell one record from another, as [order_id]"
        )
    version, known_versions = read_schema_version(fields, columns)
    currency, currency_column = read_currency(fields, columns)
    rules = read_rules(fields["rules"], columns, key, places)
    contract = Contract(
        source=source,
        table=table_name(fields, "table", f"bronze.{source}"),
        quarantine=table_name(fields, "quarantine", f"bronze.quarantine_{source}"),
        files=read_patterns(fields["files"]),
        format=cast(Literal["csv", "jsonl"], fields["format"].choice(("csv", "jsonl"))),
        mode=mode,
        key=key,
        columns=columns,
        derived=derived,
        rules=rules,
        money=read_money(fields, columns),
        currency=currency,
        currency_column=currency_column,
        version_column=read_version_column(fields, names, mode),
        partition_by=column_list(fields, "partition_by", [*names, *(d.name for d in derived)]),
        on_new_column=cast(NewColumn, optional_choice(fields, "on_new_column", NEW_COLUMN)),
        shrink_limit=read_shrink_limit(fields, mode),
        round_decimals="round_decimals" in fields and fields["round_decimals"].flag(),
        schema_version=version,
        known_schema_versions=known_versions,
        known_values=known_values,
        description=optional_text(fields, "description"),
        owner=optional_text(fields, "owner"),
        text=text,
        sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )
    check_rules(contract, fields["rules"], places)
    return contract, places


def optional_text(fields: Mapping[str, Value], name: str) -> str:
    """Return the text under ``name``, empty when it is not there."""
    return fields[name].text() if name in fields else ""


def optional_choice(fields: Mapping[str, Value], name: str, options: Sequence[str]) -> str:
    """Return the choice under ``name``; the first of ``options`` when it is not there."""
    return fields[name].choice(options) if name in fields else options[0]


def identifier(value: Value) -> str:
    """Return the name of a source or column: lower case, digits, underscores."""
    text = value.text()
    if NAME.fullmatch(text):
        return text
    better = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower())
    raise value.error(
        f'"{text}" is not a name',
        f"use lower case, digits and underscores, starting with a letter: {better.strip('_')}"
        "; the name in the delivery goes into from:",
    )


def table_name(fields: Mapping[str, Value], name: str, default: str) -> str:
    """Return the bronze table under ``name``."""
    if name not in fields:
        return default
    text = fields[name].text()
    if not TABLE.fullmatch(text):
        raise fields[name].error(f'"{text}" is not a bronze table', f"write it as {default}")
    return text


def read_patterns(value: Value) -> tuple[str, ...]:
    """Return the glob patterns of ``files``."""
    items = value.items()
    if not items:
        raise value.error("files is empty", 'name the files of this source, as ["usage*.jsonl"]')
    for item in items:
        pattern = item.text()
        if "/" in pattern:
            raise item.error(
                f'pattern "{pattern}" holds a folder', "patterns match the base name of a file only"
            )
        if pattern.endswith((".gz", ".zst")):
            raise item.error(
                f'pattern "{pattern}" names a compression',
                "leave out .gz and .zst: both are recognised behind every name",
            )
    return tuple(item.text() for item in items)


def column_list(fields: Mapping[str, Value], name: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the list of columns under ``name``; each must be in ``known``, once."""
    found: list[str] = []
    for item in fields[name].items() if name in fields else ():
        column = item.text()
        if column not in known:
            raise unknown_column(item, column, known)
        if column in found:
            raise item.error(f'column "{column}" is given twice', "remove one of the two")
        found.append(column)
    return tuple(found)


def unknown_column(value: Value, column: str, known: Collection[str]) -> Exception:
    """Return the error for a column that is not declared."""
    hint = nearest(column, known)
    return value.error(
        f'column "{column}" is not declared',
        f'did you mean "{hint}"?'
        if hint
        else f"declare it under columns:, or use one of {', '.join(sorted(known))}",
    )


def read_columns(value: Value) -> tuple[tuple[Column, ...], dict[str, tuple[str, ...]]]:
    """Return the declared columns, and the known values of those that list them."""
    columns: list[Column] = []
    known: dict[str, tuple[str, ...]] = {}
    for key, body in value.pairs():
        name = free_name(key)
        fields = body.fields(
            ("type", "from", "unit", "doc", "personal", "default", "known"), ("type",)
        )
        kind = cast(ColumnType, fields["type"].choice(get_args(ColumnType)))
        if "known" in fields:
            known[name] = texts(fields, "known")
        columns.append(
            Column(
                name=name,
                type=kind,
                source=fields["from"].text() if "from" in fields else name,
                unit=optional_text(fields, "unit"),
                doc=optional_text(fields, "doc"),
                personal="personal" in fields and fields["personal"].flag(),
                default=literal(fields["default"], kind) if "default" in fields else None,
            )
        )
    if not columns:
        raise value.error("columns is empty", "declare at least the key")
    return tuple(columns), known


def free_name(key: Value) -> str:
    """Return a column name that the product does not use itself."""
    name = identifier(key)
    if name in RESERVED:
        raise key.error(
            f'column name "{name}" is taken: every bronze table has it',
            f"call it delivered_{name}, with from: {name}",
        )
    return name


def read_derived(
    value: Value | None, columns: Sequence[Column]
) -> tuple[tuple[Derived, ...], Places]:
    """Return the derived columns and where their SQL stands."""
    derived: list[Derived] = []
    places: Places = {}
    kinds = {column.name: column.type for column in columns}
    for key, body in value.pairs() if value else ():
        name = free_name(key)
        if name in kinds:
            raise key.error(f'column "{name}" is declared under columns: too', "rename one")
        fields = body.fields(("type", "sql", "doc"), ("type", "sql"))
        kind = cast(ColumnType, fields["type"].choice(get_args(ColumnType)))
        expression_columns(fields["sql"], kinds)
        places["derived", name] = fields["sql"]
        derived.append(Derived(name, kind, fields["sql"].text(), optional_text(fields, "doc")))
    return tuple(derived), places


def literal(value: Value, kind: ColumnType) -> str:
    """Return ``default:`` as a SQL literal of the column's type."""
    text = value.text()
    quoted = "'" + text.replace("'", "''") + "'"
    try:
        if kind == "decimal":
            # As DECIMAL(38,9) holds it: 29 digits before the point, SCALE behind it.
            if not re.fullmatch(rf"-?[0-9]{{1,{38 - SCALE}}}(\.[0-9]{{1,{SCALE}}})?", text):
                raise ValueError
            return f"CAST({quoted} AS DECIMAL(38, {SCALE}))"
        if kind == "integer":
            if not -(2**63) <= int(text) < 2**63:
                raise ValueError
            return str(int(text))
        if kind == "boolean":
            return str(value.flag()).upper()
        if kind == "date":
            return f"DATE '{date.fromisoformat(text).isoformat()}'"
    except ValueError as error:
        raise value.error(
            f'default "{text}" is not a {kind}', "give a value of the type"
        ) from error
    if kind == "timestamp":
        raise value.error(
            "a timestamp has no default", "a time that was not delivered would be made up"
        )
    return quoted


def read_money(fields: Mapping[str, Value], columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the columns whose sums the ledger keeps; each must be a decimal."""
    kinds = {column.name: column.type for column in columns}
    money = column_list(fields, "money", kinds)
    for name in money:
        if kinds[name] != "decimal":
            raise fields["money"].error(
                f'money column "{name}" is of type {kinds[name]}', "declare it with type: decimal"
            )
    for column in columns:
        given = column.default.split("'")[1] if column.name in money and column.default else "0"
        if Decimal(given) != 0:
            raise fields["money"].error(
                f'money column "{column.name}" has a default that is not 0',
                "remove it or make it 0: the ledger counts amounts that were delivered only",
            )
    if money and "currency" not in fields:
        raise fields["money"].error(
            "money has no currency", "add currency: USD, or currency: {column: NAME}"
        )
    return money


def read_currency(fields: Mapping[str, Value], columns: Sequence[Column]) -> tuple[str, bool]:
    """Return (ISO code or column, whether it is a column)."""
    if "currency" not in fields:
        return "", False
    value = fields["currency"]
    if hasattr(value.node, "style"):
        code = value.text()
        if not CURRENCY.fullmatch(code):
            raise value.error(
                f'"{code}" is not an ISO 4217 code',
                "write three capitals, as USD, or {column: NAME} where each record says it",
            )
        return code, False
    item = value.fields(("column",), ("column",))["column"]
    kinds = {column.name: column.type for column in columns}
    if item.text() not in kinds:
        raise unknown_column(item, item.text(), kinds)
    if kinds[item.text()] != "text":
        raise item.error(
            f'currency column "{item.text()}" is of type {kinds[item.text()]}',
            "declare it with type: text",
        )
    return item.text(), True


def read_schema_version(
    fields: Mapping[str, Value], columns: Sequence[Column]
) -> tuple[str, tuple[int, ...]]:
    """Return the column that carries the schema version, and the versions known."""
    if "schema_version" not in fields:
        return "", ()
    body = fields["schema_version"].fields(("column", "known"), ("column", "known"))
    kinds = {column.name: column.type for column in columns}
    name = body["column"].text()
    if name not in kinds:
        raise unknown_column(body["column"], name, kinds)
    if kinds[name] != "integer":
        raise body["column"].error(
            f'schema version column "{name}" is of type {kinds[name]}',
            "declare it with type: integer",
        )
    known: list[int] = []
    for item in body["known"].items():
        if not item.text().isascii() or not item.text().isdigit():
            raise item.error(f'"{item.text()}" is not a version', "write whole numbers, as [1, 2]")
        known.append(int(item.text()))
    return name, tuple(known)


def read_version_column(fields: Mapping[str, Value], names: Collection[str], mode: LoadMode) -> str:
    """Return the column whose larger value is the newer version; empty: last logged wins."""
    if "version_column" not in fields:
        return ""
    value = fields["version_column"]
    if mode != "upsert":
        raise value.error(
            f"version_column has no meaning for mode {mode}",
            "use it with mode: upsert, or remove it",
        )
    if value.text() not in names:
        raise unknown_column(value, value.text(), names)
    return value.text()


def read_shrink_limit(fields: Mapping[str, Value], mode: LoadMode) -> str:
    """Return the largest share of keys that a snapshot may drop, as decimal text."""
    if "shrink_limit" not in fields:
        return SHRINK_LIMIT if mode == "snapshot" else ""
    value = fields["shrink_limit"]
    if mode != "snapshot":
        raise value.error(
            f"shrink_limit has no meaning for mode {mode}",
            "use it with mode: snapshot, or remove it",
        )
    if not re.fullmatch(r"(0(\.\d{1,9})?|1(\.0{1,9})?)", value.text()):
        raise value.error(
            f'"{value.text()}" is not a share', "write a decimal from 0 to 1, as 0.2; 1 allows all"
        )
    return value.text()
