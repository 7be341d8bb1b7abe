"""Blocks that are generated from the code: found in a page, and written anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from docs_pages.commands import command_reference
from docs_pages.dictionary import bronze_tables, lineage, model_tables
from docs_pages.reference import (
    checks,
    column_types,
    error_classes,
    exit_codes,
    python_api,
    questions,
    settings,
    severities,
)
from docs_pages.refusals import refusal_table

__all__ = ["GENERATORS", "generated"]

GENERATORS: Final[Mapping[str, Callable[[], str]]] = {
    "bronze": bronze_tables,
    "checks": checks,
    "column types": column_types,
    "commands": command_reference,
    "error classes": error_classes,
    "exit codes": exit_codes,
    "gold": lambda: model_tables("gold"),
    "lineage": lineage,
    "python api": python_api,
    "questions": questions,
    "refusals": refusal_table,
    "settings": settings,
    "severities": severities,
    "silver": lambda: model_tables("silver"),
}
"""Name of a block to what writes it."""

_BLOCK: Final = re.compile(
    r"^<!-- generated: (?P<name>[^\n]*?) -->\n(?P<body>.*?)^<!-- end -->$", re.M | re.S
)


def generated(text: str) -> str:
    """Return a page with every generated block written anew."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- generated: {name} -->\n\n{GENERATORS[name]().strip()}\n\n<!-- end -->"

    return _BLOCK.sub(block, text)
