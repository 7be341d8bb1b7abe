"""What the pages show is what the program prints, command by command, in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs_pages.transcripts import PAGES, retold, stable

ROOT = Path(__file__).resolve().parents[2]


def changed(names: tuple[str, ...], folder: Path) -> list[str]:
    """The pages that show something else than their commands print now."""
    texts = [(ROOT / name).read_text("utf-8") for name in names]
    told = retold(texts, folder)
    pairs = zip(names, texts, told, strict=True)
    return [name for name, old, new in pairs if stable(old) != stable(new)]


def test_the_readme_shows_what_its_commands_print(tmp_path: Path) -> None:
    assert changed(("README.md",), tmp_path) == [], "run `make docs`"


@pytest.mark.slow
def test_every_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    assert changed(PAGES, tmp_path) == [], "run `make docs`"
