"""Short tables from the code: settings, errors, rules, questions, the Python API."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, get_args

import meterhouse
from docs_pages.markdown import cell, code, table
from meterhouse.config import SETTINGS
from meterhouse.errors import MeterhouseError
from meterhouse.inspection import Inspection
from meterhouse.intake.contract import ColumnType, Severity
from meterhouse.intake.contract_rules import CHECK_SEVERITIES, LOOKED_AT
from meterhouse.names import CHECKS
from meterhouse.project import Project
from meterhouse.serving.queries import QUESTIONS
from meterhouse.wiring import Wiring

__all__ = [
    "EXIT_CODES",
    "checks",
    "column_types",
    "error_classes",
    "errors",
    "exit_codes",
    "modules",
    "python_api",
    "questions",
    "settings",
    "severities",
]

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "Done. Held records are part of being done.",
    1: "A promise is broken, data was refused or a source stopped; what could be done was done.",
    2: "A mistake of the caller: a name, an option, a contract, a model or a setting.",
    3: "The machine said no: disk full, no permission, a file that can't be read. Try again.",
    70: "A bug of ours, with its traceback. The log and the last answer are intact.",
    130: "Stopped by Ctrl-C. The same command finishes the work.",
}

COLUMN_TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "text": ("VARCHAR", "Text. JSON: a string; CSV: the field as it stands."),
    "decimal": (
        "DECIMAL(38, 9)",
        "A number, or text that is one after trimming; exact, from its digits. Up to 9 decimals "
        "that are not zero, below 1e18 in size.",
    ),
    "integer": ("BIGINT", "A whole number of 64 bits."),
    "boolean": ("BOOLEAN", "`true` or `false`; as text in any case."),
    "date": ("DATE", "`YYYY-MM-DD`."),
    "timestamp": (
        "TIMESTAMPTZ",
        "ISO 8601 with a time of day; UTC where no zone is given, else converted to it; "
        "microseconds.",
    ),
    "json": ("VARCHAR", "Any JSON value, kept as its text."),
}

SEVERITIES: Final[Mapping[str, str]] = {
    "quarantine": "The record is held: its bytes, file, line and all broken rules are kept, it "
    "counts nowhere but in the ledger.",
    "repair": "The columns named under `repair:` are set to what their SQL gives, the record is "
    "accepted and flagged; it is held when the repaired record still breaks the rule.",
    "flag": "The record is accepted; the rule's name is in its column `flags`, and `status` "
    "counts it.",
    "stop": "The file is refused before anything of it is numbered, and its source stops; other "
    "sources go on.",
}

CHECK_MEANINGS: Final[Mapping[str, str]] = {
    "malformed": "The record is not one: not a JSON object; a row with more or fewer fields than "
    "the header, or broken quoting; broken UTF-8; over 16 MiB or 64 levels.",
    "wrong_type": "A value of a declared column has another type.",
    "unreadable": "A day or time can't be read.",
    "key_unusable": "A column that tables are keyed or partitioned by is NULL, empty, over 128 "
    "bytes, or holds control characters.",
    "number_out_of_range": "More than 9 decimals that are not zero, or 1e18 or more in size, or "
    "beyond reading.",
    "conflicting_duplicate": "A record with this key was accepted before and says something else.",
}


def settings() -> str:
    """Return every setting with its default and its environment variable."""
    return table(
        ["setting", "default", "environment", "meaning"],
        (
            (code(one.name), code(one.default), code(one.variable), cell(one.doc))
            for one in SETTINGS
        ),
    )


def exit_codes() -> str:
    """Return the exit codes of the program."""
    return table(
        ["exit", "meaning"], ((code(str(number)), text) for number, text in EXIT_CODES.items())
    )


def modules() -> Iterator[object]:
    """Yield every module of the package, imported."""
    yield meterhouse
    for found in pkgutil.walk_packages(meterhouse.__path__, "meterhouse."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def errors() -> list[type[MeterhouseError]]:
    """Return every class of error that the package defines, by the code it carries."""
    for _ in modules():
        pass
    found: dict[str, type[MeterhouseError]] = {}
    waiting = [MeterhouseError]
    while waiting:
        for one in waiting.pop().__subclasses__():
            if one.__module__.startswith("meterhouse."):
                found[one.__name__] = one
                waiting.append(one)
    return sorted(found.values(), key=lambda one: one.code)


def error_classes() -> str:
    """Return one line for each class of error."""
    return table(
        ["code", "class", "exit", "retry", "meaning"],
        (
            (
                code(one.code),
                code(one.__name__),
                code(str(one.exit_code)),
                "yes" if one.retryable else "no",
                cell((inspect.getdoc(one) or "").replace("\n", " ")),
            )
            for one in errors()
        ),
    )


def column_types() -> str:
    """Return the types that a column of a contract can have."""
    assert set(COLUMN_TYPES) == set(get_args(ColumnType))
    return table(
        ["type", "in the tables", "what is readable"],
        ((code(name), code(sql), text) for name, (sql, text) in COLUMN_TYPES.items()),
    )


def severities() -> str:
    """Return what a broken rule does."""
    assert set(SEVERITIES) == set(get_args(Severity))
    return table(
        ["severity", "what becomes of a record that breaks the rule"],
        ((code(name), text) for name, text in SEVERITIES.items()),
    )


def checks() -> str:
    """Return what a rule can leave to the parser and the deduplication."""
    assert set(CHECK_MEANINGS) == set(CHECKS)
    rows = []
    for name in CHECKS:
        columns = {"malformed": "none", "wrong_type": "all", "conflicting_duplicate": "the key"}
        looked_at = columns.get(name) or (
            "all of type " + " and ".join(map(code, LOOKED_AT[name]))
            if name in LOOKED_AT
            else "the key"
        )
        named = "" if name in columns else ", or those under `columns:`"
        rows.append((code(name), CHECK_MEANINGS[name], looked_at + named))
    allowed = " or ".join(map(code, CHECK_SEVERITIES))
    return (
        table(["check", "broken when", "columns it looks at"], rows)
        + f"\n\nA check has severity {allowed}: what it finds can't be mended by SQL, nor let "
        "through."
    )


def questions() -> str:
    """Return the six questions: arguments and the tables they are answered from."""
    return table(
        ["question", "answer", "arguments", "read from"],
        (
            (
                f"[`{one.name}`](#{one.name})",
                cell(one.summary),
                ", ".join(code("--" + name.replace("_", "-")) for name in one.options),
                ", ".join(map(code, one.tables)),
            )
            for one in QUESTIONS.values()
        ),
    )


def python_api() -> str:
    """Return every public method of an open project, with its documentation."""
    parts = [_entry("meterhouse.open", meterhouse.open)]
    members = [item for one in (Project, Inspection, Wiring) for item in vars(one).items()]
    for name, member in members:
        if not name.startswith("_") and inspect.isfunction(member) and name not in _FOR_COMMANDS:
            parts.append(_entry(name, member))
    return "\n\n".join(parts)


_FOR_COMMANDS: Final = ("models", "serving", "discover", "take", "ticks", "at_position")
"""Steps of other methods, which the commands call to report between them."""


def _entry(name: str, member: Callable[..., object]) -> str:
    return f"### {name}\n\n```python\n{name}{_signature(member)}\n```\n\n{_documented(member)}"


def _signature(member: Callable[..., object]) -> str:
    """Return the signature on one line, types as they are written."""
    found = inspect.signature(member)
    kinds = [parameter.kind for parameter in found.parameters.values()]
    shown: list[str] = []
    for name, parameter in found.parameters.items():
        if name == "self":
            continue
        stars: dict[object, str] = {
            parameter.VAR_POSITIONAL: "*",
            parameter.VAR_KEYWORD: "**",
        }
        if parameter.kind == parameter.KEYWORD_ONLY and "*" not in "".join(shown):
            shown.append("*")
        text = f"{stars.get(parameter.kind, '')}{name}: {parameter.annotation}"
        if parameter.default is not parameter.empty:
            text += f" = {'…' if callable(parameter.default) else repr(parameter.default)}"
        shown.append(text)
        if parameter.kind == parameter.POSITIONAL_ONLY and kinds.count(parameter.kind) == 2:
            shown.append("/")
    return f"({', '.join(shown)}) -> {found.return_annotation}"


def _documented(member: object) -> str:
    """Return a Google docstring as Markdown: sections as lists."""
    parts = []
    for paragraph in (inspect.getdoc(member) or "").split("\n\n"):
        lines = paragraph.splitlines()
        if lines[0] in ("Args:", "Raises:", "Returns:"):
            parts.append(f"{lines[0][:-1].replace('Args', 'Arguments')}:\n\n{_items(lines[1:])}")
        else:
            parts.append(cell(paragraph).replace("``", "`"))
    return "\n\n".join(parts)


def _items(lines: list[str]) -> str:
    items: list[str] = []
    for line in lines:
        if re.match(r" {4}\S", line):
            name, _, text = line.strip().partition(": ")
            items.append(f"- `{name}`: {text}")
        else:
            items[-1] += " " + line.strip()
    return "\n".join(items).replace("``", "`")
