"""The lineage of models as a drawing: Mermaid for documents, DOT for Graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from meterhouse.models.graph import Models

__all__ = ["dot", "edges", "mermaid"]


def edges(models: Models, wanted: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return (table read, model), sorted; only what ``wanted`` needs, or all."""
    names = models.closure(wanted) if wanted else models.order
    return sorted((read, name) for name in names for read in models[name].depends_on)


def mermaid(models: Models, wanted: Sequence[str] = ()) -> str:
    """Return the lineage as a Mermaid flow chart, one subgraph for each layer."""
    found = edges(models, wanted)
    lines = ["flowchart LR"]
    for layer, tables in _layers(found):
        lines.append(f"  subgraph {layer}")
        lines += [f'    {_identifier(table)}["{table}"]' for table in tables]
        lines.append("  end")
    lines += [f"  {_identifier(read)} --> {_identifier(name)}" for read, name in found]
    return "\n".join(lines) + "\n"


def dot(models: Models, wanted: Sequence[str] = ()) -> str:
    """Return the lineage as a DOT digraph, one cluster for each layer."""
    found = edges(models, wanted)
    lines = ["digraph models {", "  rankdir=LR;", "  node [shape=box];"]
    for layer, tables in _layers(found):
        lines.append(f"  subgraph cluster_{layer} {{")
        lines.append(f'    label="{layer}";')
        lines += [f'    "{table}";' for table in tables]
        lines.append("  }")
    lines += [f'  "{read}" -> "{name}";' for read, name in found]
    return "\n".join([*lines, "}"]) + "\n"


def _layers(found: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    tables = sorted({table for edge in found for table in edge})
    layers = ("bronze", "silver", "gold")
    return [
        (layer, [table for table in tables if table.startswith(f"{layer}.")]) for layer in layers
    ]


def _identifier(table: str) -> str:
    return table.replace(".", "_")
