"""Meterhouse turns raw cloud usage into numbers that can be audited.

``meterhouse.open(path)`` opens a project; see ``meterhouse.project.Project``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from meterhouse.project import Project

__all__ = ["open"]


def open(path: str | Path | None = None) -> Project:
    """Open the project at ``path``, else the one around the current folder.

    Raises:
        ConfigError: There is no project there, or one of its settings is not valid.
    """
    # Not at the top: `meterhouse --help` and `meterhouse query` need none of it.
    from meterhouse.project import open_project

    return open_project(path)
