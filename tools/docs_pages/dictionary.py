"""The data dictionary: every table of bronze, silver and gold, from contracts and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

import pyarrow as pa

from docs_pages.markdown import anchor, cell, code, table
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import load_contracts
from meterhouse.layers.bronze import REMOVED_KEYS, bronze_schemas
from meterhouse.models.graph import Models, load_models
from meterhouse.models.lineage import mermaid
from meterhouse.models.model import Model
from meterhouse.names import TECHNICAL
from meterhouse.scaffold import SHIPPED

__all__ = ["bronze_tables", "lineage", "model_tables", "shipped_contracts", "shipped_models"]

SQL_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.binary(): "BLOB",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
    pa.decimal128(38, 9): "DECIMAL(38, 9)",
    pa.list_(pa.string()): "VARCHAR[]",
}

KEPT: Final[Mapping[str, str]] = {
    "log_position": "Log entry that holds the record.",
    "row_number": "Number of the record within its entry, from 0. With `log_position`: its place.",
    "source_file": "File it was delivered in; relative to the project where it lies inside.",
    "source_line": "Physical line where the record starts, from 1.",
    "ingest_ts": "When the entry was taken, UTC.",
    "extra": "Fields the contract does not declare, as the text of a JSON object; "
    "NULL when there are none.",
    "unreadable": "Declared fields that could not be read, with what was delivered, as the text "
    "of a JSON object; NULL when there are none.",
    "flags": "Rules of severity flag or repair that fired; NULL when none did.",
    "invalid_reason": "First broken rule, in the contract's order.",
    "broken_rules": "All broken rules.",
    "raw": "The record's bytes as they landed, without the end of line.",
    "raw_text": "The same as text; bytes that are not UTF-8 and control characters as `\\xNN`.",
}
"""Columns that bronze tables have of their own."""

HELD: Final = ("invalid_reason", "broken_rules", "raw_text", "raw")

KINDS: Final = {
    "rows": "rows: one row for each row of its facts",
    "mergeable": "mergeable: partial results add up",
    "view": "view: computed from whole tables",
}

MODES: Final = {
    "append": "append: records are added, the first of a key counts",
    "upsert": "upsert: the last version of a key counts",
    "snapshot": "snapshot: a file is the whole list",
}


@cache
def shipped_contracts() -> dict[str, Contract]:
    """Return the contracts that ship, by source."""
    return load_contracts(SHIPPED / "contracts")


@cache
def shipped_models() -> Models:
    """Return the models that ship."""
    found = load_models(SHIPPED / "models", bronze_schemas(shipped_contracts()))
    assert not found.problems, found.problems[0]
    return found


def lineage() -> str:
    """Return what reads what, as a drawing."""
    return f"```mermaid\n{mermaid(shipped_models())}```"


def bronze_tables() -> str:
    """Return the sections of bronze."""
    schemas = bronze_schemas(shipped_contracts())
    own = next(iter(shipped_contracts().values()))
    accepted, held = schemas[own.table], schemas[own.quarantine]
    common = [*TECHNICAL, "extra", "unreadable", "flags"]
    parts = [
        "### Columns of every bronze table",
        _columns((name, accepted.field(name).type, "", KEPT[name]) for name in common),
    ]
    parts += [_contract_section(contract) for contract in shipped_contracts().values()]
    names = ", ".join(code(one.quarantine) for one in shipped_contracts().values())
    parts += [
        "### Held records",
        f"{names}: one row for each held record, partitioned by `invalid_reason`. Beside the "
        "columns above and those that the contract declares (NULL where they could not be "
        "read):",
        _columns((name, held.field(name).type, "", KEPT[name]) for name in HELD),
        f"### {REMOVED_KEYS}",
        "One row for each key that a snapshot no longer held. Models that keep history read it.",
        _columns(
            (field.name, field.type, "", _removed(field.name)) for field in schemas[REMOVED_KEYS]
        ),
        "### Current versions",
        "Models, but no readers, also see "
        + ", ".join(
            code(f"{one.table}_current")
            for one in shipped_contracts().values()
            if one.mode != "append"
        )
        + ": of each key the version in force, with the columns of the table.",
    ]
    return "\n\n".join(parts)


def _removed(name: str) -> str:
    own = {
        "source": "Source whose snapshot it was.",
        "key": "The key, as the text of a JSON list.",
    }
    return own.get(name) or KEPT[name]


def _contract_section(contract: Contract) -> str:
    facts = {
        "grain": ", ".join(map(code, contract.key))
        + ("" if contract.mode == "append" else " × version"),
        "load mode": MODES[contract.mode],
        "files": ", ".join(map(code, contract.files)) + ", also `.gz` and `.zst`",
        "partitioned by": ", ".join(map(code, contract.partition_by)),
        "money": ", ".join(map(code, contract.money)),
        "owner": contract.owner,
    }
    rows = []
    for column in contract.columns:
        notes = [column.doc]
        if column.source != column.name:
            notes.append(f"Delivered as `{column.source}`.")
        if column.personal:
            notes.append("Personal data.")
        rows.append((column.name, _type(contract, column.name), column.unit, " ".join(notes)))
    for derived in contract.derived:
        note = f"{derived.doc} Computed: `{derived.sql}`."
        rows.append((derived.name, _type(contract, derived.name), "", note))
    return "\n\n".join(
        [f"### {contract.table}", contract.description, _facts(facts), _columns(rows)]
    )


def _type(contract: Contract, column: str) -> pa.DataType:
    return bronze_schemas({contract.source: contract})[contract.table].field(column).type


def model_tables(layer: str) -> str:
    """Return the sections of silver or gold."""
    models = shipped_models()
    names = sorted(name for name in models.order if name.startswith(f"{layer}."))
    return "\n\n".join(_model_section(models[name], models) for name in names)


def _unstored(model: Model) -> str:
    return f"no: {'computed when it is read' if model.on_read else 'a step that others share'}"


def _model_section(model: Model, models: Models) -> str:
    keys = ", ".join(map(code, model.partition_key))
    order = ", ".join(map(code, model.clustering))
    facts = {
        "grain": ", ".join(map(code, model.grain)),
        "kind": KINDS[model.kind] + (f" (facts: `{model.fact}`)" if model.fact else ""),
        "stored": "" if model.stored else _unstored(model),
        "reads": ", ".join(map(_linked, model.depends_on)),
        "feeds": ", ".join(
            _linked(name) for name in models.order if model.name in models[name].depends_on
        ),
        "batch only": model.batch_only,
        "partitioned by": ", ".join(map(code, model.partition_by)),
        "serving": f"asked by {keys}" + (f", in the order {order}" if order else "")
        if keys
        else "",
        "audits": ", ".join(code(audit.name) for audit in model.audits),
        "owner": model.owner,
    }
    rows = [(column.name, column.type, column.unit, column.doc) for column in model.columns]
    parts = [f"### {model.name}", model.description, _facts(facts), _columns(rows)]
    for name, ratio in model.ratios.items():
        times = f"{ratio.times} × " if ratio.times != 1 else ""
        parts.append(
            f"`{name}` = {times}{ratio.numerator} ÷ {ratio.denominator}, computed after the "
            "merge: 6 places, half-even, NULL when the denominator is 0."
        )
    return "\n\n".join(parts)


def _linked(name: str) -> str:
    """Return a table's name, as a link where it has a section of its own."""
    shown = name.removesuffix("_current")
    return f"[`{name}`](#{anchor(shown)})"


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def _columns(rows: Iterable[tuple[str, pa.DataType | str, str, str]]) -> str:
    return table(
        ["column", "type", "unit", "meaning"],
        (
            (
                code(name),
                cell(kind if isinstance(kind, str) else SQL_TYPES[kind]),
                cell(unit),
                cell(doc),
            )
            for name, kind, unit, doc in rows
        ),
    )
