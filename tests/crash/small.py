"""A project that seals its log early: ranges of four entries instead of a thousand."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from e2e.house import House
from meterhouse.log.segments import Span
from meterhouse.project import Project

__all__ = ["SMALL", "small_project"]

SMALL: Final = {"span": Span(entries=4), "seal_margin": 2}
"""Attribute of a project → what it is here."""


def small_project(root: Path) -> Project:
    """Open the project at ``root`` as the processes of these tests do."""
    project = House(root).project
    for name, value in SMALL.items():
        setattr(project, name, value)
    return project
