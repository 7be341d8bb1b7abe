"""YAML in which every value knows its place: file, line and column.

Plain scalars stay text: ``0.2`` never becomes a double and ``no`` never a boolean.
What a value means is decided by whoever reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from meterhouse.errors import ContractError, nearest

__all__ = ["Value", "read_document", "texts"]

# The C parser is ten times faster; a build of PyYAML without it reads the same.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document."""

    node: yaml.Node
    file: str

    @property
    def at(self) -> str:
        """Place as ``file:line:column``, counted from 1."""
        mark = self.node.start_mark
        return f"{self.file}:{mark.line + 1}:{mark.column + 1}"

    def at_offset(self, offset: int) -> str:
        """Return the place of character ``offset`` of this text, where that can be known."""
        start, end = self.node.start_mark, self.node.end_mark
        quotes = 1 if isinstance(self.node, yaml.ScalarNode) and self.node.style else 0
        # Escapes, folded lines and block scalars move characters: then point to the start.
        if start.line != end.line or end.column - start.column != len(self.node.value) + 2 * quotes:
            return self.at
        return f"{self.file}:{start.line + 1}:{start.column + 1 + quotes + offset}"

    def error(self, what: str, fix: str, *, offset: int | None = None) -> ContractError:
        """Return an error that points here."""
        return ContractError(what, self.at if offset is None else self.at_offset(offset), fix)

    def text(self) -> str:
        """Return the text of a single, non-empty value."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.error("expected one value, found a list or a block", "write one value here")
        text = str(self.node.value)
        plain = self.node.style is None
        if not text.strip() or (plain and text in ("null", "~")):
            raise self.error("value is empty", "give it a value, or remove the line")
        return text

    def choice(self, options: Iterable[str]) -> str:
        """Return the text, which must be one of ``options``."""
        text, known = self.text(), list(options)
        if text in known:
            return text
        hint = nearest(text, known)
        raise self.error(
            f'"{text}" is not a choice here',
            f'did you mean "{hint}"?' if hint else f"use one of {', '.join(known)}",
        )

    def flag(self) -> bool:
        """Return true or false."""
        return self.choice(("true", "false")) == "true"

    def items(self) -> list[Value]:
        """Return the values of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error("expected a list", "write it as [a, b] or with a dash per line")
        return [Value(item, self.file) for item in self.node.value]

    def entries(self) -> dict[str, Value]:
        """Return the values of a block by name, in order; a name given twice is an error."""
        return {key.text(): value for key, value in self.pairs()}

    def pairs(self) -> list[tuple[Value, Value]]:
        """Return names and values of a block, the names with their places."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("expected a block of names and values", "write it as name: value")
        found: list[tuple[Value, Value]] = []
        seen: set[str] = set()
        for key_node, value_node in self.node.value:
            key = Value(key_node, self.file)
            if key.text() in seen:
                raise key.error(f'"{key.text()}" is given twice', "remove one of the two")
            seen.add(key.text())
            found.append((key, Value(value_node, self.file)))
        return found

    def fields(self, known: Iterable[str], required: Iterable[str] = ()) -> dict[str, Value]:
        """Return the values of a block whose names are fixed.

        Raises:
            ContractError: A name is unknown (the nearest is suggested), given twice, or
                missing.
        """
        options = list(known)
        for key, _ in self.pairs():
            if key.text() not in options:
                hint = nearest(key.text(), options)
                raise key.error(
                    f'key "{key.text()}" does not exist here',
                    f'did you mean "{hint}"?' if hint else f"use one of {', '.join(options)}",
                )
        found = self.entries()
        for name in required:
            if name not in found:
                raise self.error(f'key "{name}" is missing', f"add {name}: to this block")
        return found


def read_document(text: str, where: str) -> Value:
    """Read one YAML document whose top is a block.

    Raises:
        ContractError: The text is not YAML, empty, or holds several documents.
    """
    try:
        node = yaml.compose(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ContractError(
            f"file is not YAML: {error.problem or 'unreadable'}",
            place,
            "mend the line; quote text that holds : # or starts with a sign",
        ) from error
    except yaml.YAMLError as error:  # characters that YAML forbids
        raise ContractError(
            "file is not YAML: it holds characters that YAML does not allow",
            where,
            "save it as UTF-8 text without control characters",
        ) from error
    if node is None:
        raise ContractError("file is empty", where, "start from `meterhouse contract infer`")
    return Value(node, where)


def texts(values: Mapping[str, Value], name: str) -> tuple[str, ...]:
    """Return the list of texts under ``name``; empty when it is not there."""
    return tuple(item.text() for item in values[name].items()) if name in values else ()
