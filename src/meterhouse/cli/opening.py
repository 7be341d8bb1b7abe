"""The project a command works on, with the settings given on its command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from meterhouse.project import Project

__all__ = ["SETTINGS", "given_settings", "opened"]

SETTINGS = "meterhouse.settings"
"""Where the program keeps what ``--set`` said, in the context's ``meta``."""


def given_settings() -> dict[str, str]:
    """Return setting → value as text, of every ``--set`` of this command line."""
    context = click.get_current_context(silent=True)
    found: dict[str, str] = context.meta.get(SETTINGS, {}) if context is not None else {}
    return found


def opened(option: str | None) -> Project:
    """Open the project named by ``--project``, else the one around the current folder.

    Raises:
        ConfigError: There is no project, or a setting is not valid.
    """
    from meterhouse.project import open_project

    return open_project(option, options=given_settings())
