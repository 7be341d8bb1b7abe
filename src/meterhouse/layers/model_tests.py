"""Given/expect tests of models, in YAML beside them: what goes in, what must come out.

``models/tests/gold.revenue_by_org_month.yaml`` tests the model of that name. Numbers are
read as text, so 0.1 is a tenth; tables that are not given are empty.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import yaml

from meterhouse.errors import MeterhouseError, ModelError, UsageError, nearest
from meterhouse.layers.compute import compute, result
from meterhouse.models.finalize import arrow_schema
from meterhouse.models.graph import Models
from meterhouse.ports import Engine

__all__ = ["ModelTest", "Outcome", "load_tests", "run_test", "run_tests"]

TAKEN: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""ingest_ts of given rows that don't say."""


@dataclass(frozen=True, slots=True)
class ModelTest:
    """One named example of a model."""

    model: str
    name: str
    given: Mapping[str, Sequence[Mapping[str, object]]]
    expect: Sequence[Mapping[str, object]]
    path: str

    @property
    def title(self) -> str:
        """The model and the sentence."""
        return f"{self.model}: {self.name.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test."""

    test: ModelTest
    problem: str = ""
    """Empty when it passed; else which rows differ, or why it could not run."""


class _TextLoader(yaml.SafeLoader):
    """YAML whose plain scalars stay text, but for null, true and false."""

    yaml_implicit_resolvers: Final = {}  # type: ignore[misc]  # a fresh one, not the parent's

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'"{key.value}" is there twice', key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_TextLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"\A(?:null|~|)\Z"), ["n", "~", ""]
)
_TextLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"\A(?:true|false)\Z"), ["t", "f"]
)


def load_tests(folder: Path, only: str | None = None) -> list[ModelTest]:
    """Return the tests in ``folder``'s YAML files, in order.

    Args:
        folder: The project's models/tests.
        only: A model, or part of a test's name; None for all.

    Raises:
        ModelError: A file is not valid.
        UsageError: ``only`` names nothing.
    """
    found = [test for path in sorted(folder.glob("*.yaml")) for test in _of_file(path)]
    if only is None:
        return found
    chosen = [test for test in found if only == test.model or only in test.name]
    if not chosen:
        names = {test.model for test in found} | {test.name for test in found}
        raise UsageError.unknown("test", only, names, where=str(folder))
    return chosen


def _of_file(path: Path) -> list[ModelTest]:
    try:
        body = yaml.load(path.read_text("utf-8"), _TextLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        raise ModelError(
            f"test file is not valid YAML: {said}",
            f"{path}:{mark.line + 1 if mark else 1}",
            "see the line named",
        ) from error
    if not isinstance(body, dict):
        raise _odd(path, "it holds no tests")
    return [_test(path, str(name), said) for name, said in body.items()]


def _test(path: Path, name: str, said: object) -> ModelTest:
    if not isinstance(said, dict) or set(said) != {"given", "expect"}:
        raise _odd(path, f'test "{name}" needs given: and expect:')
    given, expect = said["given"] or {}, said["expect"] or []
    tables = [*given.values(), expect] if isinstance(given, dict) else [None]
    if not all(
        isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in tables
    ):
        raise _odd(path, f'test "{name}" needs lists of rows: - {{column: value}}')
    return ModelTest(path.stem, name, given, expect, str(path))


def _odd(path: Path | str, what: str) -> ModelError:
    return ModelError(
        f"test file can't be used: {what}",
        str(path),
        "write name_of_the_test: {given: {layer.table: [rows]}, expect: [rows]}",
    )


def run_tests(
    tests: Sequence[ModelTest], models: Models, sources: Mapping[str, pa.Schema], engine: Engine
) -> list[Outcome]:
    """Run ``tests`` one after the other, each on tables of its own."""
    outcomes = []
    for test in tests:
        try:
            problem = run_test(test, models, sources, engine)
        except MeterhouseError as error:
            problem = str(error)
        outcomes.append(Outcome(test, problem))
    return outcomes


def run_test(
    test: ModelTest, models: Models, sources: Mapping[str, pa.Schema], engine: Engine
) -> str:
    """Run one test; return "" when it passed, else the rows that differ."""
    for problem in models.problems:
        if f'"{test.model}"' in problem.what:
            raise problem
    model = models[test.model]
    schemas = {**sources, **{name: arrow_schema(models[name]) for name in models.order}}
    given = {table: _table(test, table, rows, schemas) for table, rows in test.given.items()}
    empty = {name: sources[name].empty_table() for name in models.sources([test.model])}
    with engine.session({**empty, **given}) as session:
        compute(session, models, [test.model], present=list(given))
        found = result(session, model)
    return _differences(test, found)


def _table(
    test: ModelTest,
    name: str,
    rows: Sequence[Mapping[str, object]],
    schemas: Mapping[str, pa.Schema],
) -> pa.Table:
    if name not in schemas:
        raise UsageError.unknown("table", name, schemas, where=f"{test.path}: {test.name}")
    schema = schemas[name]
    technical = {"log_position": "1", "ingest_ts": TAKEN.isoformat(), "source_file": "given"}
    filled = [
        {**technical, "row_number": str(number), "source_line": str(number + 1), **row}
        for number, row in enumerate(rows)
    ]
    for row in rows:
        _known_columns(test, row, schema)
    return pa.Table.from_pylist(
        [
            {
                field.name: _value(test, field.name, row.get(field.name), field.type)
                for field in schema
            }
            for row in filled
        ],
        schema,
    )


def _known_columns(test: ModelTest, row: Mapping[str, object], schema: pa.Schema) -> None:
    for column in row:
        if column not in schema.names:
            hint = nearest(str(column), schema.names)
            raise ModelError(
                f'test "{test.name}" names column "{column}", which its table does not have',
                test.path,
                f'did you mean "{hint}"?' if hint else f"use {', '.join(schema.names)}",
            )


def _value(test: ModelTest, column: str, value: object, kind: pa.DataType) -> object:
    try:
        typed = _typed(value, kind)
        pa.scalar(typed, kind)
    except (ValueError, TypeError, InvalidOperation) as error:
        raise ModelError(
            f'test "{test.name}" has {value!r} in column "{column}", which is no {kind}',
            test.path,
            "write numbers and days plainly: 12.5, 2025-07-03, 2025-07-03T10:00:00Z",
        ) from error
    return typed


def _typed(value: object, kind: pa.DataType) -> object:
    if value is None:
        return None
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_typed(item, kind.value_type) for item in value]
    if pa.types.is_map(kind) and isinstance(value, dict):
        return [(str(key), _typed(item, kind.item_type)) for key, item in value.items()]
    if pa.types.is_boolean(kind) and isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, bool) else value
    if not isinstance(text, str):
        raise TypeError(text)
    return _scalar(text, kind)


def _scalar(text: str, kind: pa.DataType) -> object:
    if pa.types.is_decimal(kind):
        return Decimal(text)
    if pa.types.is_integer(kind):
        return int(text)
    if pa.types.is_date(kind):
        return date.fromisoformat(text)
    if pa.types.is_timestamp(kind):
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if pa.types.is_binary(kind):
        return text.encode("utf-8")
    if pa.types.is_string(kind):
        return text
    raise TypeError(text)


def _differences(test: ModelTest, found: pa.Table) -> str:
    """Compare as bags of rows, over the columns that ``expect`` names."""
    for row in test.expect:
        _known_columns(test, row, found.schema)
    columns = list(dict.fromkeys(column for row in test.expect for column in row))
    if not columns:
        return f"expected no rows, found {found.num_rows}" if found.num_rows else ""
    schema = pa.schema([found.schema.field(name) for name in columns])
    wanted = pa.Table.from_pylist(
        [
            {
                field.name: _value(test, field.name, row.get(field.name), field.type)
                for field in schema
            }
            for row in test.expect
        ],
        schema,
    )
    expected, actual = _bag(wanted), _bag(found.select(columns))
    lines = [f"expected, not found: {row}" for row in (expected - actual).elements()]
    lines += [f"found, not expected: {row}" for row in (actual - expected).elements()]
    return "\n".join(lines)


def _bag(table: pa.Table) -> Counter[str]:
    return Counter(
        ", ".join(f"{name}: {'null' if value is None else value}" for name, value in row.items())
        for row in table.to_pylist()
    )
