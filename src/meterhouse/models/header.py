"""The YAML header of a model file: read strictly, mistakes named by file and line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from meterhouse.errors import ModelError, nearest
from meterhouse.models.model import Audit, CqlKey, Kind, Ratio

__all__ = ["Header", "HeaderColumn", "read_header"]

OPENING: Final = re.compile(r"\A\s*/\*\s*---[ \t]*\n(?P<yaml>.*?)^---[ \t]*\*/", re.S | re.M)
RATIO: Final = re.compile(r"\A(?:(?P<times>\d{1,12})\s*\*\s*)?(?P<up>\w+)\s*/\s*(?P<down>\w+)\Z")
NAME: Final = re.compile(r"\A[a-z_][a-z0-9_]*\Z")
LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FIELDS: Final = (
    "audits",
    "batch_only",
    "columns",
    "description",
    "fact",
    "finalizer",
    "grain",
    "kind",
    "owner",
    "partition_by",
    "ratios",
    "serving",
    "stored",
)
SERVING: Final = frozenset({"partition_key", "clustering", "keep", "cql"})
PART: Final = re.compile(r"\A[a-z_][a-z0-9_]*\Z|\A(?:day|month)\([a-z_][a-z0-9_]*\)\Z")
EXAMPLE: Final = "begin the file with /* ---, YAML lines, --- */ (CONTRIBUTING.md has an example)"


@dataclass(frozen=True, slots=True)
class HeaderColumn:
    """What the header says of one column."""

    doc: str
    unit: str
    line: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header as read, before it is held against the SQL."""

    description: str
    owner: str
    kind: Kind
    fact: str
    grain: tuple[str, ...]
    columns: Mapping[str, HeaderColumn]
    ratios: Mapping[str, Ratio]
    finalizer: str
    audits: tuple[Audit, ...]
    partition_key: tuple[str, ...]
    clustering: tuple[str, ...]
    keep: str
    cql: tuple[CqlKey, ...]
    partition_by: tuple[str, ...]
    batch_only: str
    stored: bool
    lines: Mapping[str, int] = field(default_factory=dict)
    """Field to its line in the file, 1-based."""
    sql: str = ""
    """The file with the header blanked out, so that its line numbers are the file's."""


def read_header(text: str, name: str, path: str) -> Header:
    """Read the header of model ``name`` from the text of its file.

    Raises:
        ModelError: There is no header, it is not YAML, or a field is unknown, missing
            or of the wrong type.
    """
    found = OPENING.match(text)
    if not found:
        raise ModelError(f'model "{name}" has no header', f"{path}:1", EXAMPLE)
    offset = text[: found.start("yaml")].count("\n")
    fields, lines, column_lines = _fields(found["yaml"], offset, name, path)
    reader = _Reader(name, path, fields, lines)
    blanked = "\n" * text[: found.end()].count("\n") + text[found.end() :]
    return reader.header(blanked, column_lines)


def _fields(
    source: str, offset: int, name: str, path: str
) -> tuple[dict[str, Any], dict[str, int], dict[str, int]]:
    """Return the fields, and the lines of the fields and of the columns."""
    loader = LOADER(source)
    try:
        root = loader.get_single_node()
        fields = loader.construct_document(root) if root else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = offset + 1 + (mark.line if mark else 0)
        problem = getattr(error, "problem", None) or "not YAML"
        raise ModelError(
            f'header of model "{name}" is not valid YAML: {problem}', f"{path}:{line}", EXAMPLE
        ) from error
    finally:
        loader.dispose()
    if not isinstance(fields, dict):
        raise ModelError(f'header of model "{name}" is empty', f"{path}:1", EXAMPLE)
    described = next((value for key, value in root.value if key.value == "columns"), None)
    columns = _key_lines(described, offset) if isinstance(described, yaml.MappingNode) else {}
    return fields, _key_lines(root, offset), columns


def _key_lines(mapping: yaml.MappingNode, offset: int) -> dict[str, int]:
    return {key.value: offset + 1 + key.start_mark.line for key, _ in mapping.value}


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    path: str
    fields: Mapping[str, Any]
    lines: Mapping[str, int]

    def header(self, sql: str, column_lines: Mapping[str, int]) -> Header:
        self._known_fields()
        kind = self._text("kind", required=True)
        if kind not in ("rows", "mergeable", "view"):
            raise self._wrong("kind", "use rows, mergeable or view")
        serving = self.fields.get("serving") or {}
        if not isinstance(serving, dict) or set(serving) - SERVING:
            raise self._wrong(
                "serving",
                "give it partition_key: […], clustering: […] and perhaps keep: COLUMN, cql: NAME",
            )
        stored = self.fields.get("stored", True)
        if not isinstance(stored, bool):
            raise self._wrong("stored", "use true or false")
        return Header(
            description=self._text("description", required=True),
            owner=self._text("owner", required=True),
            kind=kind,  # type: ignore[arg-type]  # checked above
            fact=self._text("fact"),
            grain=self._names("grain", self.fields.get("grain"), required=True),
            columns=self._columns(column_lines),
            ratios=self._ratios(),
            finalizer=self._text("finalizer"),
            audits=self._audits(),
            partition_key=self._names("serving", serving.get("partition_key")),
            clustering=self._clustering(serving.get("clustering")),
            keep=self._keep(serving.get("keep")),
            cql=self._cql(serving.get("cql")),
            partition_by=self._names("partition_by", self.fields.get("partition_by")),
            batch_only=self._text("batch_only"),
            stored=stored,
            lines=self.lines,
            sql=sql,
        )

    def _wrong(self, field_name: str, fix: str) -> ModelError:
        line = self.lines.get(field_name, 1)
        return ModelError(
            f'header of model "{self.name}" has a wrong "{field_name}"', f"{self.path}:{line}", fix
        )

    def _known_fields(self) -> None:
        for key in self.fields:
            if key not in FIELDS:
                hint = nearest(str(key), FIELDS)
                raise ModelError(
                    f'header of model "{self.name}" has an unknown field "{key}"',
                    f"{self.path}:{self.lines.get(key, 1)}",
                    f'did you mean "{hint}"?' if hint else f"use {', '.join(FIELDS)}",
                )

    def _text(self, field_name: str, *, required: bool = False) -> str:
        value = self.fields.get(field_name)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(field_name, f"add {field_name}: followed by text")
        return " ".join(value.split())

    def _names(self, field_name: str, value: object, *, required: bool = False) -> tuple[str, ...]:
        if value is None and not required:
            return ()
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(item, str) and NAME.match(item) for item in value)
        ):
            raise self._wrong(field_name, "give a list of column names: [org_id, usage_date]")
        return tuple(value)

    def _clustering(self, value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        valid = re.compile(r"\A[a-z_][a-z0-9_]*( ASC| DESC)?\Z")
        if not isinstance(value, list) or not all(
            isinstance(item, str) and valid.match(item) for item in value
        ):
            raise self._wrong("serving", "give clustering a list: [usage_date DESC, service]")
        return tuple(value)

    def _keep(self, value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, str) or not NAME.match(value):
            raise self._wrong("serving", "give keep one column of event time: keep: window_start")
        return value

    def _cql(self, value: object) -> tuple[CqlKey, ...]:
        """Read a table's name, or names with the keys that differ from the serving key."""
        named = {value: None} if isinstance(value, str) else value or {}
        advice = "give cql a name, or {NAME: {partition_key: […], clustering: […]}, …}"
        if not isinstance(named, dict):
            raise self._wrong("serving", advice)
        found = []
        for name, said in named.items():
            keys = said or {}
            if (
                not isinstance(name, str)
                or not NAME.match(name)
                or not isinstance(keys, dict)
                or set(keys) - {"partition_key", "clustering"}
            ):
                raise self._wrong("serving", advice)
            parts = keys.get("partition_key") or []
            if not isinstance(parts, list) or not all(PART.match(str(part)) for part in parts):
                raise self._wrong("serving", "name columns, day(COLUMN) or month(COLUMN)")
            found.append(
                CqlKey(name, tuple(map(str, parts)), self._clustering(keys.get("clustering")))
            )
        return tuple(found)

    def _columns(self, lines: Mapping[str, int]) -> dict[str, HeaderColumn]:
        value = self.fields.get("columns")
        if not isinstance(value, dict) or not value:
            raise self._wrong("columns", "list every column with what it means")
        columns = {}
        for column, said in value.items():
            if isinstance(said, str):
                said = {"doc": said}
            if (
                not isinstance(said, dict)
                or set(said) - {"doc", "unit"}
                or not isinstance(said.get("doc"), str)
                or not NAME.match(str(column))
            ):
                raise ModelError(
                    f'header of model "{self.name}" describes column "{column}" wrongly',
                    f"{self.path}:{lines.get(str(column), self.lines['columns'])}",
                    f"write {column}: text, or {column}: {{unit: USD, doc: text}}",
                )
            columns[column] = HeaderColumn(said["doc"], str(said.get("unit", "")), lines[column])
        return columns

    def _ratios(self) -> dict[str, Ratio]:
        value = self.fields.get("ratios") or {}
        if not isinstance(value, dict):
            raise self._wrong("ratios", "write name: numerator / denominator")
        ratios = {}
        for column, text in value.items():
            found = RATIO.match(str(text))
            if not found or not NAME.match(str(column)):
                raise self._wrong("ratios", "write name: numerator / denominator, or 1000 * a / b")
            ratios[column] = Ratio(found["up"], found["down"], int(found["times"] or 1))
        return ratios

    def _audits(self) -> tuple[Audit, ...]:
        value = self.fields.get("audits") or []
        if not isinstance(value, list) or not all(
            isinstance(item, dict) and len(item) == 1 for item in value
        ):
            raise self._wrong("audits", "give a list of one-entry items: - unique: [org_id]")
        return tuple(self._audit(*next(iter(item.items()))) for item in value)

    def _audit(self, kind: str, value: object) -> Audit:
        if kind == "unique":
            return _unique(self.name, self._names("audits", value, required=True))
        if kind == "not_null":
            return _not_null(self.name, self._names("audits", value, required=True))
        if kind == "same_count" and isinstance(value, str):
            return _same_count(self.name, value)
        if kind == "same_total" and isinstance(value, dict) and len(value) == 1:
            column, other = next(iter(value.items()))
            if str(other).count(".") == 2:
                return _same_total(self.name, str(column), str(other))
        if isinstance(value, str) and value.lstrip().upper().startswith("SELECT"):
            return Audit(kind, value.strip())
        raise self._wrong(
            "audits",
            "use unique: […], not_null: […], same_count: layer.table, "
            "same_total: {column: layer.table.column}, or name: SELECT … (of the wrong rows)",
        )


def _unique(table: str, columns: Sequence[str]) -> Audit:
    listed = ", ".join(columns)
    return Audit(
        f"unique({listed})",
        f"SELECT {listed}, count(*) AS times FROM {table} GROUP BY {listed} HAVING count(*) > 1",
    )


def _not_null(table: str, columns: Sequence[str]) -> Audit:
    condition = " OR ".join(f"{column} IS NULL" for column in columns)
    return Audit(f"not_null({', '.join(columns)})", f"SELECT * FROM {table} WHERE {condition}")


def _same_count(table: str, other: str) -> Audit:
    return Audit(
        f"same_count({other})",
        "SELECT mine.total AS found, theirs.total AS expected "
        f"FROM (SELECT count(*) AS total FROM {table}) AS mine, "
        f"(SELECT count(*) AS total FROM {other}) AS theirs WHERE mine.total <> theirs.total",
    )


def _same_total(table: str, column: str, other: str) -> Audit:
    source, _, source_column = other.rpartition(".")
    return Audit(
        f"same_total({column} = {other})",
        "SELECT mine.total AS found, theirs.total AS expected "
        f"FROM (SELECT coalesce(sum({column}), 0) AS total FROM {table}) AS mine, "
        f"(SELECT coalesce(sum({source_column}), 0) AS total FROM {source}) AS theirs "
        "WHERE mine.total <> theirs.total",
    )
