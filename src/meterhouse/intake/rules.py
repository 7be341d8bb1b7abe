"""The rules of a contract over parsed records: which record breaks which.

What SQL decides is one SELECT that returns only the rows that broke something; what the
parser found comes with the rows; whether a key is usable is looked at column by column.
A rule that comes out NULL condemns nobody, and a rule over a value that could not be read
says nothing: that it could not be read is a broken rule already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.errors import ContractError, SqlError
from meterhouse.intake.contract import SQL_TYPES, Column, Contract, Rule
from meterhouse.ports import Engine

__all__ = ["KEY_BYTES", "UNDECLARED_COLUMN", "Broken", "broken_rules", "compile_rules"]

Mask: TypeAlias = npt.NDArray[np.bool_]

KEY_BYTES: Final = 128
"""Longest text, in UTF-8, of a usable key or partition value."""

UNDECLARED_COLUMN: Final = "undeclared_column"
"""Reason of records held because the contract says ``on_new_column: quarantine``."""

_FEW: Final = 10_000
"""Records up to which the rules are planned once for all entries."""
_TIME: Final = pa.timestamp("us", "UTC")
_CONTROL: Final = r"\p{Cc}"
_LEADS_TO_CONTROL: Final = 0xC2
"""First UTF-8 byte of U+0080 to U+009F, the control characters beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What was found about each record. Row order is that of the records."""

    names: tuple[str, ...]
    """Reasons in the contract's order, one per column of ``held``."""
    held: Mask
    """(records, names): which reasons hold a record."""
    stopping: Mask
    """Per reason: its severity is ``stop``."""
    flag_names: tuple[str, ...]
    flags: Mask
    """(records, flag_names): which flag and repair rules fired."""
    unreadable: Mapping[str, Mask]
    """Column to which records delivered a value for it that could not be read."""
    malformed: Mask
    rows: pa.Table
    """The records, repaired where the contract says how."""


def broken_rules(
    rows: pa.Table, contract: Contract, *, ingest_ts: datetime, engine: Engine
) -> Broken:
    """Hold ``rows`` (``parse.rows_schema``) against the rules of ``contract``.

    Deduplication is not decided here: ``conflicting_duplicate`` never appears.

    Raises:
        ContractError: The engine refuses the SQL of a rule.
    """
    problems = _Problems(rows, contract)
    reasons = [rule for rule in contract.rules if rule.severity != "flag"]
    names = [rule.name for rule in reasons]
    undeclared = contract.on_new_column != "keep" and rows["extra"].null_count < rows.num_rows
    if undeclared:
        names.append(UNDECLARED_COLUMN)
    flagged = [rule.name for rule in contract.rules if rule.severity in ("flag", "repair")]
    held = np.zeros((rows.num_rows, len(names)), bool)
    flags = np.zeros((rows.num_rows, len(flagged)), bool)

    fired, rows = _evaluated(rows, contract, problems, ingest_ts, engine)
    for index, rule in enumerate(reasons):
        if rule.check == "key_unusable":
            held[:, index] = _unusable(rows, rule, problems)
        elif rule.check:
            held[problems.rows_of(rule), index] = True
        elif rule.name in fired:
            held[fired[rule.name].held, index] = True
    for index, name in enumerate(flagged):
        if name in fired:
            flags[fired[name].rows, index] = True
    if undeclared:
        held[:, -1] = rows["extra"].is_valid().to_numpy()
    stops = {rule.name for rule in reasons if rule.severity == "stop"}
    if contract.on_new_column == "stop":
        stops.add(UNDECLARED_COLUMN)
    return Broken(
        names=tuple(names),
        held=held,
        stopping=np.array([name in stops for name in names], bool),
        flag_names=tuple(flagged),
        flags=flags,
        unreadable=problems.unreadable,
        malformed=problems.malformed,
        rows=rows,
    )


class _Problems:
    """What the parser found, by record and column."""

    def __init__(self, rows: pa.Table, contract: Contract) -> None:
        self._rows = rows
        self._contract = contract
        self._found: dict[str, list[int]] = {}
        self.malformed: Mask = np.zeros(rows.num_rows, bool)
        self.unreadable: dict[str, Mask] = {}
        column = rows["problems"]
        if column.null_count == rows.num_rows:
            return
        at = np.flatnonzero(column.is_valid().to_numpy())
        for row, problems in zip(at.tolist(), column.take(pa.array(at)).to_pylist(), strict=True):
            for problem in problems:
                self._found.setdefault(problem, []).append(row)
        self.malformed[self._found.get("malformed", [])] = True
        for problem, found in self._found.items():
            kind, _, name = problem.partition(":")
            if name and kind != "rounded":
                self._mark(contract.by_name[name], np.array(found))

    def _mark(self, column: Column, found: npt.NDArray[np.int64]) -> None:
        # A field that feeds two columns is reported once; neither could be read then. A
        # number out of range that DECIMAL(38,9) still holds is there, and is readable.
        for sibling in self._contract.by_source[column.source]:
            nulls = self._rows[sibling.name].take(pa.array(found)).is_null().to_numpy()
            if nulls.any():
                mask = self.unreadable.setdefault(sibling.name, np.zeros(self._rows.num_rows, bool))
                mask[found[nulls]] = True

    def rows_of(self, rule: Rule) -> list[int]:
        """Return the records with a problem that ``rule`` is about."""
        if rule.check == "malformed":
            return self._found.get("malformed", [])
        wanted = {f"{rule.check}:{column}" for column in rule.columns}
        return [row for problem in wanted & self._found.keys() for row in self._found[problem]]

    def silences(self, rule: Rule) -> Mask | None:
        """Return the records about which ``rule`` says nothing, None when there are none."""
        masks = [self.unreadable[name] for name in rule.columns if name in self.unreadable]
        if self.malformed.any():
            masks.append(self.malformed)
        return np.logical_or.reduce(masks) if masks else None


@dataclass(frozen=True, slots=True)
class _Fired:
    rows: npt.NDArray[np.int64]
    """Records for which the rule does not hold."""
    held: npt.NDArray[np.int64]
    """Those among them that are held: all, or those a repair could not mend."""


def _evaluated(
    rows: pa.Table,
    contract: Contract,
    problems: _Problems,
    ingest_ts: datetime,
    engine: Engine,
) -> tuple[dict[str, _Fired], pa.Table]:
    rules = [rule for rule in contract.rules if rule.holds]
    if not rules or not rows.num_rows:
        return {}, rows
    silenced = {rule.name: mask for rule in rules if (mask := problems.silences(rule)) is not None}
    needed = dict.fromkeys(name for rule in rules for name in rule.columns)
    if any(rule.repair for rule in rules):
        needed = dict.fromkeys(contract.by_name)  # an expression that mends may name any
    record = rows.select(list(needed)).append_column("_row", pa.array(np.arange(rows.num_rows)))
    record = record.append_column("ingest_ts", pa.repeat(pa.scalar(ingest_ts, _TIME), len(record)))
    for index, rule in enumerate(rules):
        if rule.name in silenced:
            record = record.append_column(f"_silenced_{index}", pa.array(silenced[rule.name]))
    sql = compile_rules(contract, silenced=silenced)
    try:
        if len(record) <= _FEW:
            found = engine.ask(sql, {"record": record})
        else:
            with engine.session({"record": record}) as session:
                found = session.query(sql)
    except SqlError as error:
        raise ContractError(
            f'a rule of source "{contract.source}" can\'t be evaluated: {error.what}',
            f'rules of contract "{contract.source}"',
            "run `meterhouse contract check`: it names the line; nothing was taken",
        ) from error
    at = found["_row"].to_numpy()
    fired: dict[str, _Fired] = {}
    for index, rule in enumerate(rules):
        broken = at[found[f"_broken_{index}"].to_numpy()]
        if len(broken):
            still = at[found[f"_still_{index}"].to_numpy()] if rule.repair else broken
            fired[rule.name] = _Fired(broken, still)
    repaired = dict.fromkeys(column for rule in rules for column in rule.repair or ())
    for column in repaired if len(at) else ():
        rows = _mended(rows, column, found)
    return fired, rows


def compile_rules(contract: Contract, *, silenced: Iterable[str] = ()) -> str:
    """Return the SELECT over ``record`` that finds the rows which break a SQL rule.

    ``record`` has the columns that the rules name, ``ingest_ts``, ``_row``, and for each rule in
    ``silenced`` (number i among the SQL rules) a boolean ``_silenced_i``. The answer has
    ``_row``, ``_broken_i`` for each SQL rule, ``_still_i`` for those that a repair could
    not mend, and the columns that are repaired. A repair is seen by the rules after it.
    """
    quiet = set(silenced)
    rules = [rule for rule in contract.rules if rule.holds]
    stage = "(SELECT * FROM record)"
    answers = ["_row"]
    pending: list[str] = []
    for index, rule in enumerate(rules):
        loud = f"NOT _silenced_{index} AND " if rule.name in quiet else ""
        pending.append(f"{loud}({rule.holds}\n) IS FALSE AS _broken_{index}")
        answers.append(f"_broken_{index}")
        if rule.repair:
            stage = f"(SELECT *, {', '.join(pending)} FROM {stage})"
            mended = ", ".join(
                f"CASE WHEN _broken_{index} THEN ({sql}\n)::"
                f"{SQL_TYPES[contract.by_name[column].type]} ELSE {_quoted(column)} END "
                f"AS {_quoted(column)}"
                for column, sql in rule.repair.items()
            )
            stage = f"(SELECT * REPLACE ({mended}) FROM {stage})"
            # A repair that leaves the rule broken mends nothing: the record is held.
            pending = [f"_broken_{index} AND ({rule.holds}\n) IS FALSE AS _still_{index}"]
            answers.append(f"_still_{index}")
    stage = f"(SELECT *, {', '.join(pending)} FROM {stage})"
    repaired = dict.fromkeys(_quoted(column) for rule in rules for column in rule.repair or ())
    any_broken = " OR ".join(f"_broken_{index}" for index in range(len(rules)))
    return (
        f"SELECT {', '.join([*answers, *repaired])} FROM {stage} WHERE {any_broken} ORDER BY _row"
    )


def _mended(rows: pa.Table, column: str, found: pa.Table) -> pa.Table:
    mask = np.zeros(rows.num_rows, bool)
    mask[found["_row"].to_numpy()] = True
    index = rows.schema.get_field_index(column)
    kind = rows.schema.field(column).type
    values = found[column].combine_chunks().cast(kind)
    mended = pc.replace_with_mask(rows[column].combine_chunks(), pa.array(mask), values)
    return rows.set_column(index, rows.schema.field(column), mended)


def _unusable(rows: pa.Table, rule: Rule, problems: _Problems) -> Mask:
    broken = np.zeros(rows.num_rows, bool)
    for name in rule.columns:
        column_broken = _unusable_values(rows[name].combine_chunks())
        if name in problems.unreadable:
            column_broken &= ~problems.unreadable[name]
        broken |= column_broken
    return broken & ~problems.malformed


def _unusable_values(values: pa.Array) -> Mask:
    """Return which values are NULL, empty, too long or hold control characters."""
    broken = np.zeros(len(values), bool)
    if values.null_count:
        broken |= values.is_null().to_numpy(zero_copy_only=False)
    if not pa.types.is_string(values.type) or not len(values):
        return broken
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    sizes = np.diff(ends)
    broken |= (sizes == 0) | (sizes > KEY_BYTES)
    if data is not None and _may_hold_control(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]):
        matched = pc.match_substring_regex(values, _CONTROL)
        broken |= matched.fill_null(False).to_numpy(zero_copy_only=False)
    return broken


def _may_hold_control(data: npt.NDArray[np.uint8]) -> bool:
    """Look at all bytes of a column at once: a pattern over each value costs 50 times as much."""
    return bool(((data < 0x20) | (data == 0x7F) | (data == _LEADS_TO_CONTROL)).any())


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
