"""A first draft of a contract, from a user's own delivery.

A draft decides nothing by itself: whatever the values can't tell stands in it as a comment
with DECIDE. A delivery for one of the shipped sources gets the shipped contract with
``from:`` where a field has another name.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from meterhouse.errors import UsageError
from meterhouse.intake.column_matching import match_columns, words
from meterhouse.intake.contract import Contract
from meterhouse.intake.contract_reading import RESERVED
from meterhouse.intake.contracts import parse_contract
from meterhouse.intake.sampling import Field, Sample, fits, is_number, read_sample, unique
from meterhouse.names import LoadMode

__all__ = ["SHIPPED_CONTRACTS", "infer"]

SHIPPED_CONTRACTS: Final = Path(__file__).parents[1] / "catalog" / "contracts"

MONEY: Final = frozenset(
    [
        "amount",
        "charge",
        "charges",
        "cost",
        "costs",
        "credit",
        "credits",
        "discount",
        "fee",
        "fees",
        "price",
        "subtotal",
        "tax",
        "taxes",
        "total",
    ]
)
CURRENCIES: Final = frozenset(
    ["ars", "aud", "brl", "cad", "chf", "cny", "eur", "gbp", "inr", "jpy", "mxn", "usd"]
)
PERSONAL: Final = frozenset(
    ["address", "email", "firstname", "ip", "lastname", "mail", "mobile", "phone"]
)
LONG: Final = 64
"""Key columns of more characters than this are free text, not keys."""


def infer(file: Path, source: str) -> str:
    """Return the YAML draft of a contract for ``source``, from the records of ``file``.

    Raises:
        UsageError: The file holds no records, or ``source`` can't be a name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", source):
        raise UsageError(
            f'"{source}" can\'t be the name of a source',
            "--source",
            "use lower case, digits and underscores, starting with a letter",
        )
    sample = read_sample(file)
    shipped = SHIPPED_CONTRACTS / f"{source}.yaml"
    if shipped.is_file():
        return shipped_draft(sample, file.name, shipped.read_text("utf-8"))
    return new_draft(sample, file.name, source)


def heading(sample: Sample, name: str) -> list[str]:
    """Return the comment that says what the draft was made from."""
    part = "all" if sample.whole else "the first"
    found = [
        f"# Drafted from {json.dumps(name)}: {part} {sample.records:,} records.",
        "# Settle every line that says DECIDE, put this into contracts/, and run",
        "# `meterhouse contract check`.",
    ]
    long = [field.name for field in sample.fields if field.guess == "decimal" and too_long(field)]
    if long:
        found.append(
            f"# DECIDE: {', '.join(map(yaml_text, long))} has numbers of more than 9 decimals: "
            "held, unless you add round_decimals: true"
        )
    if sample.malformed:
        found.append(f"# {sample.malformed:,} more could not be read: held as malformed.")
    return found


def too_long(field: Field) -> bool:
    """Return whether a decimal field holds numbers that DECIMAL(38,9) does not."""
    return any(is_number(cell) and not fits(cell, "decimal") for cell in field.filled)


def shipped_draft(sample: Sample, name: str, text: str) -> str:
    """Return the shipped contract ``text`` with the delivery's own field names."""
    contract = parse_contract(text, "shipped contract")
    matches = match_columns(sample.fields, contract)
    fields = {field.name: field for field in sample.fields}
    for column in contract.columns:
        theirs = matches.fields.get(column.source)
        note = "" if theirs else "no field of the file looks like this: stays NULL"
        if column.source in matches.by_values:
            note = "found by its values, not by its name: is it this field?"
        if theirs and (misfits := fields[theirs].misfits(column.type)):
            note = (
                f"{misfits:,} of {len(fields[theirs].filled):,} values of {json.dumps(theirs)} "
                f"are not {column.type}: they would be held"
            )
        text = column_line(text, column.name, theirs or column.source, note)
    text = files_lines(text, contract, sample, name)
    taken = set(matches.fields.values())
    left = [field for field in sample.fields if field.name not in taken]
    if left:
        text = text.replace("\ncolumns:", undeclared_lines(left) + "\ncolumns:", 1)
    return "\n".join([*heading(sample, name), text])


def column_line(text: str, name: str, source: str, note: str) -> str:
    """Return ``text`` with the line of column ``name`` bound to the field ``source``."""
    line = re.search(rf"^  {name}: \{{.*\}}$", text, re.MULTILINE)
    if line is None:
        raise AssertionError(f"shipped contract has no line for column {name}")
    changed = re.sub(r", from: [a-z_0-9]+", "", line[0])
    if source != name:
        binding = source if re.fullmatch(r"[a-z][a-z0-9_]*", source) else yaml_text(source)
        changed = re.sub(
            r"\{type: ([a-z]+)", lambda m: f"{{type: {m[1]}, from: {binding}", changed, count=1
        )
    if note:
        changed += f" # DECIDE: {note}"
    return text[: line.start()] + changed + text[line.end() :]


def files_lines(text: str, contract: Contract, sample: Sample, name: str) -> str:
    """Return ``text`` with a pattern and a format that fit the delivery."""
    base = base_name(name)
    patterns = list(contract.files) if sample.format == contract.format else []
    if not any(fnmatchcase(base, pattern) for pattern in patterns):
        patterns.append(pattern_for(base))
    listed = ", ".join(yaml_text(pattern) for pattern in patterns)
    text = re.sub(r"^files: \[.*?\]", lambda _: f"files: [{listed}]", text, count=1, flags=re.M)
    return text.replace(f"\nformat: {contract.format}", f"\nformat: {sample.format}", 1)


def undeclared_lines(fields: Iterable[Field]) -> str:
    """Return comments that offer the fields which the shipped contract does not declare."""
    lines = ["", "# In the file, but not declared: kept with each record and counted by `status`."]
    lines.append("# DECIDE: to make one a column, move its line below columns: without the #.")
    lines += [f"#   {column_text(snake(field.name), field)}" for field in fields]
    return "\n".join(lines) + "\n"


def new_draft(sample: Sample, name: str, source: str) -> str:
    """Return a contract for a source that does not ship."""
    names = column_names(sample.fields)
    fields = [field for field in sample.fields if field.name]
    key = guess_key(fields)
    mode = guess_mode(sample, fields, names, key)
    columns = [names[field.name] for field in fields]
    lines = [
        *heading(sample, name),
        f"source: {source}",
        'description: "DECIDE: what one record is"',
        "owner: DECIDE@example.com",
        f"files: [{yaml_text(pattern_for(base_name(name)))}]",
        f"format: {sample.format}",
        f"mode: {mode} # DECIDE: append (records never change), upsert (the last one of a key"
        " counts), snapshot (a file is the whole list)",
        f"key: [{', '.join(names[field.name] for field in key)}]" + key_note(key),
        *money_lines(fields, names, columns),
        "on_new_column: keep # keep | quarantine | stop",
        "",
        "columns:",
        *(f"  {column_text(names[field.name], field)}" for field in fields),
        "",
        *rule_lines(fields, names, [names[field.name] for field in key], mode),
    ]
    return "\n".join(lines) + "\n"


def column_names(fields: Iterable[Field]) -> dict[str, str]:
    """Return the product's name for each delivered one: snake case, each once."""
    found: dict[str, str] = {}
    for number, field in enumerate(fields, 1):
        name = snake(field.name) or f"column_{number}"
        if name in RESERVED:
            name = f"delivered_{name}"
        if name in found.values():
            name = f"{name}_{number}"
        found[field.name] = name
    return found


def snake(name: str) -> str:
    """Return ``name`` in lower case with underscores; empty when nothing is left of it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    joined = "_".join(words(plain))
    return f"column_{joined}"[:60] if joined[:1].isdigit() else joined[:60]


def column_text(name: str, field: Field) -> str:
    """Return the line of one column, with what the author must decide."""
    kind = field.guess
    parts = [f"type: {kind}"]
    notes = []
    if name != field.name:
        parts.append(f"from: {yaml_text(field.name)}")
    if kind in ("integer", "decimal"):
        parts.append("unit: DECIDE")
    if PERSONAL & set(words(name)):
        parts.append("personal: true")
        notes.append("personal?")
    parts.append('doc: "DECIDE"')
    filled = field.filled
    if not filled:
        notes.append("it was always empty")
    if misfits := field.misfits(kind):
        notes.append(f"{misfits:,} of {len(filled):,} values are not {kind}: they would be held")
    note = f" # DECIDE: {'; '.join(notes)}" if notes else ""
    return f"{name}: {{{', '.join(parts)}}}{note}"


def guess_key(fields: Sequence[Field]) -> list[Field]:
    """Return the fields that tell records apart: one, else two; none when nothing does.

    Names that end like an id come first, then the order of the file.
    """
    able = [field for field in fields if can_be_key(field)]
    ids = sorted(able, key=lambda field: "id" not in words(field.name)[-1:])
    for field in ids:
        if unique([field]):
            return [field]
    for first in ids[:6]:
        for second in ids[:6]:
            if first.name < second.name and unique([first, second]):
                return sorted((first, second), key=fields.index)
    return []


def can_be_key(field: Field) -> bool:
    """Return whether the field is always filled, with short values that compare exactly."""
    return (
        bool(field.cells)
        and field.guess in ("text", "integer", "date", "timestamp")
        and not field.misfits(field.guess)
        and all(cell is not None and len(cell.text) <= LONG for cell in field.cells)
    )


def key_note(key: Sequence[Field]) -> str:
    """Return what the author must know about the key."""
    if key:
        return " # DECIDE: no record has it twice in this file; is that so for ever?"
    return " # DECIDE: no field tells the records apart; name the columns that should"


def guess_mode(
    sample: Sample, fields: Sequence[Field], names: dict[str, str], key: Sequence[Field]
) -> LoadMode:
    """Return append for events (a moment in each record), else snapshot."""
    moments = any(field.guess == "timestamp" for field in fields)
    if sample.format == "jsonl" or moments or len(key) != 1:
        return "append"
    changing = {"status", "state", "resolved", "closed", "updated"}
    if any(changing & set(words(names[field.name])) for field in fields):
        return "upsert"
    return "snapshot"


def money_lines(
    fields: Sequence[Field], names: dict[str, str], columns: Sequence[str]
) -> list[str]:
    """Return the money columns and their currency, as a comment where it is not known."""
    money = [
        names[field.name]
        for field in fields
        if field.guess == "decimal" and MONEY & set(words(names[field.name]))
    ]
    if not money:
        return ["# money: [] # DECIDE: amounts whose sums the ledger should keep; with currency:"]
    listed = f"money: [{', '.join(money)}] # DECIDE: amounts whose sums the ledger keeps"
    stated = sorted({code for name in money for code in CURRENCIES & set(words(name))})
    for column in columns:
        if "currency" in words(column):
            return [listed, f"currency: {{column: {column}}}"]
    if len(stated) == 1:
        return [listed, f"currency: {stated[0].upper()}"]
    return [f"# {listed}", "# currency: USD # DECIDE: then take away both #"]


def rule_lines(
    fields: Sequence[Field], names: dict[str, str], key: Sequence[str], mode: LoadMode
) -> list[str]:
    """Return the rules that every contract needs."""
    kinds = {names[field.name]: field.guess for field in fields}
    rules = [
        ("malformed", "", "The record can't be read, so nothing in it can be trusted."),
        ("wrong_type", "", "A declared column holds another type; guessing would change numbers."),
    ]
    if key:
        rules.append(
            ("key_unusable", ", ".join(key), "Without a usable key records can't be told apart.")
        )
    if any(kind in ("date", "timestamp") for kind in kinds.values()):
        rules.append(("unreadable", "", "A day or time can't be read, so it would be a guess."))
    if any(kind in ("decimal", "integer") for kind in kinds.values()):
        rules.append(("number_out_of_range", "", "Another digit would have to be rounded away."))
    if mode == "append":
        rules.append(("conflicting_duplicate", "", "Another record with this key came first."))
    lines = ["rules: # the first one that a record breaks is its invalid_reason"]
    for check, columns, because in rules:
        lines += [f"  - name: {check}", f"    check: {check}"]
        lines += [f"    columns: [{columns}]"] if columns else []
        lines += ["    severity: quarantine", f"    because: {because}"]
    return [*lines, "  # DECIDE: add your own, as", *EXAMPLE]


EXAMPLE: Final = (
    "  # - name: cost_not_negative",
    "  #   holds: cost_usd >= 0",
    "  #   severity: quarantine # quarantine | repair | flag | stop",
    "  #   because: Refunds come as invoices, not as usage.",
)


def base_name(name: str) -> str:
    """Return the file name without .gz or .zst."""
    return name.removesuffix(".gz").removesuffix(".zst")


def pattern_for(base: str) -> str:
    """Return a pattern for files like ``base``: numbers and dates may be others."""
    stem, dot, ending = base.rpartition(".")
    stem = stem if dot else base
    escaped = re.sub(r"([\[?*])", r"[\1]", stem)
    starred = re.sub(r"[0-9]+([-_T.:]?[0-9]+)*(?![A-Za-z0-9])", "*", escaped)
    starred = starred if "*" in starred else f"{starred}*"
    return f"{starred}{dot}{ending}" if dot else starred


def yaml_text(text: str) -> str:
    """Return ``text`` as a YAML value in double quotes."""
    return json.dumps(text, ensure_ascii=True)
