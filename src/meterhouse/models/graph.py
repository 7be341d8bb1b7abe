"""The models of a project and how they hang together, parsed from their SQL.

A file that is not valid is reported, and stops nothing but itself and what reads it.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlglot.errors import SqlglotError

from meterhouse.errors import ModelError, UsageError, nearest
from meterhouse.models.columns import check_columns, result_columns
from meterhouse.models.derived import check_derived
from meterhouse.models.draft import Draft, draft_of, in_order, reads_broken, tables_read
from meterhouse.models.lint import Refusal, refusals
from meterhouse.models.live import Live, live_shape
from meterhouse.models.model import Model, ModelColumn
from meterhouse.models.rounding import Types, rounded_sums
from meterhouse.models.shape import Shape, mergeable_shape, rows_shape

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Models", "load_models", "models_of", "reached", "tables_read"]

MODEL_LAYERS: Final = ("silver", "gold")
_MOST_KEPT: Final = 4
TABLE: Final = re.compile(r"\A[a-z_][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Models:
    """All valid models by name, and what is wrong with the others."""

    by_name: Mapping[str, Model]
    order: tuple[str, ...]
    """Every model after those it reads."""
    problems: tuple[ModelError, ...] = ()

    def __getitem__(self, name: str) -> Model:
        if name not in self.by_name:
            raise UsageError.unknown("model", name, self.by_name)
        return self.by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def closure(
        self, wanted: Iterable[str], without: Collection[str] = frozenset()
    ) -> tuple[str, ...]:
        """Return ``wanted`` and every model they read, in order; sources are left out.

        So are the names of ``without``, and what is read by them alone.
        """

        def models(names: Iterable[str]) -> list[str]:
            return [name for name in names if name in self.by_name and name not in without]

        needed = reached(models(wanted), lambda name: models(self.by_name[name].depends_on))
        return tuple(name for name in self.order if name in needed)

    @property
    def on_read(self) -> tuple[str, ...]:
        """The models that are computed when they are read, sorted."""
        return tuple(sorted(name for name, model in self.by_name.items() if model.on_read))

    def read_for(self, names: Iterable[str]) -> frozenset[str]:
        """Return ``names``, and for those computed on reading the tables they are made from."""
        on_read = set(self.on_read)
        return frozenset(
            reached(names, lambda name: self[name].depends_on if name in on_read else ())
        )

    def dependants(self, changed: Iterable[str]) -> tuple[str, ...]:
        """Return the models that read any of the tables ``changed``, directly or not, in order."""
        changed = set(changed)
        found: list[str] = []
        for name in self.order:
            if changed.union(found).intersection(self.by_name[name].depends_on):
                found.append(name)
        return tuple(found)

    def base_fact(self, name: str) -> str:
        """Return the bronze table whose rows model ``name`` adds up; "" for a view."""
        model = self.by_name.get(name)
        return name if model is None else self.base_fact(model.fact) if model.fact else ""

    def sources(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Return the bronze tables that the closure of ``wanted`` reads, sorted."""
        read = {table for name in self.closure(wanted) for table in self.by_name[name].depends_on}
        return tuple(sorted(table for table in read if table not in self.by_name))


_KEPT: Final[dict[object, Models]] = {}
"""What ``models_of`` built last, the longest unused first."""
_KEEPING: Final = threading.Lock()


def reached(names: Iterable[str], leads_to: Callable[[str], Iterable[str]]) -> dict[str, None]:
    """Return ``names`` and all that they lead to, each once, in the order they were found."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += leads_to(name)
    return found


def load_models(folder: Path, sources: Mapping[str, pa.Schema]) -> Models:
    """Load ``folder/{silver,gold}/*.sql`` over the bronze tables ``sources``.

    Args:
        folder: The project's models folder.
        sources: Every bronze table a model may read, with its columns.
    """
    files = {
        f"{layer}.{path.stem}": path
        for layer in MODEL_LAYERS
        for path in sorted((folder / layer).glob("*.sql"))
        if TABLE.match(path.stem)
    }
    texts: dict[str, tuple[str, str]] = {}
    problems = _misplaced(folder)
    for name, path in files.items():
        try:
            texts[name] = (path.read_text("utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(
                ModelError(f'model "{name}" can\'t be read: {error}', str(path), "save it as UTF-8")
            )
    loaded = models_of(texts, sources)
    return Models(loaded.by_name, loaded.order, (*problems, *loaded.problems))


def _misplaced(folder: Path) -> list[ModelError]:
    """Return one error for each SQL file that is no model: it would be passed over in silence."""
    return [
        ModelError(
            f'file "{path.relative_to(folder)}" is not a model',
            str(path),
            "put it into models/silver or models/gold, its name small letters, digits and _",
        )
        for path in sorted(folder.rglob("*.sql"))
        if path.parent not in [folder / layer for layer in MODEL_LAYERS]
        or not TABLE.match(path.stem)
    ]


def models_of(texts: Mapping[str, tuple[str, str]], sources: Mapping[str, pa.Schema]) -> Models:
    """Build models from ``name → (text, path)``, as ``load_models`` does from files.

    The last few are kept: a process loads the same ones several times, and parsing is what
    costs. Not those with problems, which are errors to raise.
    """
    columns = {
        name: tuple((column.name, _type_text(column.type)) for column in schema)
        for name, schema in sources.items()
    }
    key = (tuple((name, text) for name, (text, _) in texts.items()), tuple(columns.items()))
    with _KEEPING:
        built = _KEPT.pop(key, None)
    if built is None:
        built = _built(texts, columns)
    if not built.problems:
        with _KEEPING:
            _KEPT[key] = built
            if len(_KEPT) > _MOST_KEPT:
                del _KEPT[next(iter(_KEPT))]
        built = _lying_at(built, {name: path for name, (_, path) in texts.items()})
    return built


def _lying_at(built: Models, paths: Mapping[str, str]) -> Models:
    """Return ``built`` with its files elsewhere: messages name them."""
    if all(model.path == paths[name] for name, model in built.by_name.items()):
        return built
    moved = {name: replace(model, path=paths[name]) for name, model in built.by_name.items()}
    return replace(built, by_name=moved)


def _built(
    texts: Mapping[str, tuple[str, str]], sources: Mapping[str, Sequence[tuple[str, str]]]
) -> Models:
    """Build models over ``sources``: table → (column, its type as models write it)."""
    drafts: dict[str, Draft] = {}
    problems: list[ModelError] = []
    for name, (text, path) in texts.items():
        try:
            drafts[name] = draft_of(name, text, path)
        except ModelError as error:
            problems.append(error)
    order, circular = in_order(drafts)
    problems += circular
    built: dict[str, Model] = {}
    known: dict[str, Sequence[str]] = {
        name: [column for column, _ in columns] for name, columns in sources.items()
    }
    types: dict[str, Mapping[str, str]] = {name: dict(columns) for name, columns in sources.items()}
    failed = (set(texts) - set(drafts)) | (set(drafts) - set(order))
    for name in order:
        draft = drafts[name]
        found = _missing(draft, known, failed) or _complaints(
            draft, built, known, set(texts), types
        )
        if found:
            problems += found
            failed.add(name)
            continue
        built[name] = _model(draft, built, known)
        known[name] = tuple(column.name for column in built[name].columns)
        types[name] = {column.name: column.type for column in built[name].columns}
    problems += _without_audited(drafts, built, known)
    return Models(built, tuple(name for name in order if name in built), tuple(problems))


def _type_text(kind: pa.DataType) -> str:
    """Return the type of a bronze column as models write it, as far as places matter."""
    if hasattr(kind, "scale"):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return "BIGINT" if str(kind) == "int64" else str(kind)


def _missing(
    draft: Draft, known: Mapping[str, Sequence[str]], failed: Set[str]
) -> list[ModelError]:
    found = []
    for read in draft.reads:
        where = f"{draft.path}:{draft.lines[read]}"
        if read in failed:
            found.append(reads_broken(draft, read))
        elif read not in known:
            hint = nearest(read, known)
            found.append(
                ModelError(
                    f'model "{draft.name}" reads "{read}", which does not exist',
                    where,
                    f'did you mean "{hint}"?' if hint else "name a bronze, silver or gold table",
                )
            )
        elif draft.name.startswith("silver.") and read.startswith("gold."):
            found.append(
                ModelError(
                    f'model "{draft.name}" reads "{read}": data moves from silver to gold only',
                    where,
                    "make it a gold model",
                )
            )
    return found


def _without_audited(
    drafts: Mapping[str, Draft], built: dict[str, Model], known: Mapping[str, Sequence[str]]
) -> list[ModelError]:
    """Take out of ``built`` what can't be audited, and what reads that; return why."""
    found: list[ModelError] = []
    while True:
        there = {name for name in known if name in built or name not in drafts}
        gaps = {
            name: read
            for name, model in built.items()
            for read in (
                *model.depends_on,
                *(it for one in model.audits for it in tables_read(one.sql)),
            )
            if read not in there
        }
        if not gaps:
            return found
        for name, read in gaps.items():
            found.append(reads_broken(drafts[name], read))
            del built[name]


def _complaints(
    draft: Draft,
    built: Mapping[str, Model],
    known: Mapping[str, Sequence[str]],
    models: Set[str],
    types: Types,
) -> list[ModelError]:
    found: list[Refusal] = refusals(draft.tree)
    if not found:
        found += check_columns(draft.scopes, known, _finalized(built))
        columns, wrong = result_columns(draft.tree, draft.header)
        found += wrong
        found += _shape(draft, built).refusals
        found += _live(draft, built, columns).refusals if not found else ()
        found += _version_merges(draft, built)
        if draft.header.kind == "mergeable" and not found:
            found += rounded_sums(draft.scopes[-1], types)
        found += _audits(draft, {*known, *models})
    return [
        ModelError(f'model "{draft.name}": {one.what}', f"{draft.path}:{one.line}", one.fix)
        for one in sorted(found, key=lambda refusal: refusal.line)
    ]


def _finalized(built: Mapping[str, Model]) -> dict[str, set[str]]:
    return {
        name: {column.name for column in model.columns} - set(model.stored_columns)
        for name, model in built.items()
    }


def _own(built: Mapping[str, Model]) -> dict[str, Set[str]]:
    return {name: set(model.own_columns) for name, model in built.items() if model.kind == "rows"}


def _shape(draft: Draft, built: Mapping[str, Model]) -> Shape:
    header = draft.header
    if header.kind == "view":
        return Shape()
    if header.kind == "rows":
        shape = rows_shape(draft.scopes[-1], header.fact, _own(built))
    else:
        merged = [name for name, model in built.items() if model.kind == "mergeable"]
        shape = mergeable_shape(draft.scopes[-1], header.grain, _own(built), merged)
    fact = built.get(shape.fact)
    if fact is not None and fact.kind == "mergeable" == header.kind:
        check_derived(shape, draft.scopes[-1], fact)
    elif (fact is not None and fact.kind != "rows") or (
        shape.fact and shape.fact not in draft.reads
    ):
        shape.refuse(
            draft.tree,
            f'its fact "{shape.fact}" is not a table of facts',
            "read a bronze table, a rows or a mergeable model; use kind: view over anything else",
        )
    return shape


def _live(draft: Draft, built: Mapping[str, Model], columns: Sequence[ModelColumn]) -> Live:
    """Return how a gold model follows the log between batches."""
    if not draft.name.startswith("gold."):
        return Live()
    types = {column.name: column.type for column in columns}
    fact = _shape(draft, built).fact
    return live_shape(draft.scopes[-1], draft.header, fact, types, built)


def _version_merges(draft: Draft, built: Mapping[str, Model]) -> list[Refusal]:
    if draft.header.kind != "mergeable":
        return []
    shape = _shape(draft, built)
    base = Models({**built}, ()).base_fact(shape.fact)
    odd = sorted(name for name, how in shape.merge.items() if how != "sum")
    if not base.endswith("_current") or not odd:
        return []
    return [
        Refusal(
            1,
            f"{base} holds versions: when one replaces another, min or max can't be taken "
            f"back ({', '.join(odd)})",
            "use count and sum, or kind: view",
        )
    ]


def _audits(draft: Draft, known: Set[str]) -> list[Refusal]:
    """Return what is wrong with the audits; they may read any table, also one computed later."""
    found = []
    line = draft.header.lines.get("audits", 1)
    for audit in draft.header.audits:
        try:
            reads = tables_read(audit.sql)
        except SqlglotError:
            found.append(Refusal(line, f'audit "{audit.name}" is not valid SQL', "write a SELECT"))
            continue
        for read in reads:
            if read not in known:
                hint = nearest(read, known)
                found.append(
                    Refusal(
                        line,
                        f'audit "{audit.name}" reads "{read}", which does not exist',
                        f'did you mean "{hint}"?'
                        if hint
                        else "name a bronze, silver or gold table",
                    )
                )
    return found


def _model(draft: Draft, built: Mapping[str, Model], known: Mapping[str, Sequence[str]]) -> Model:
    header = draft.header
    columns, _ = result_columns(draft.tree, header)
    shape = _shape(draft, built)
    live = _live(draft, built, columns)
    digest = hashlib.sha256(draft.text.encode("utf-8"))
    for read in draft.reads:
        digest.update(f"\n{read}:{built[read].sha256 if read in built else ''}".encode())
    return Model(
        name=draft.name,
        sql=header.sql.rstrip().rstrip(";"),
        kind=header.kind,
        fact=shape.fact,
        depends_on=draft.reads,
        grain=header.grain,
        columns=columns,
        audits=header.audits,
        partition_key=header.partition_key,
        clustering=header.clustering,
        partition_by=header.partition_by,
        batch_only=header.batch_only,
        stored=header.stored,
        description=header.description,
        owner=header.owner,
        path=draft.path,
        sha256=digest.hexdigest(),
        merge=shape.merge,
        ratios=header.ratios,
        finalizer=header.finalizer,
        count_column=shape.count_column,
        own_columns=shape.own,
        stored_columns=tuple(one.alias_or_name for one in draft.tree.selects),
        keep=header.keep,
        cql=header.cql,
        live_by=live.by,
        live_from=live.reads,
        text=draft.text,
    )
