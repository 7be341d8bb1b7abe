"""``python -m docs_pages [--check]``: write the pages anew, or say which are stale."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from docs_pages.cql import cql_files
from docs_pages.pages import generated
from docs_pages.transcripts import PAGES, retold

__all__ = ["ROOT", "main"]

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Write every page whose text changed; with ``--check`` only name them."""
    check = "--check" in arguments
    texts = {path: path.read_text("utf-8") for path in pages(ROOT)}
    told = {path: generated(text) for path, text in texts.items()}
    with tempfile.TemporaryDirectory(prefix="meterhouse-docs-") as folder:
        shown = [ROOT / name for name in PAGES]
        told |= zip(shown, retold([told[path] for path in shown], Path(folder)), strict=True)
    for name, text in cql_files().items():
        path = ROOT / name
        texts[path] = path.read_text("utf-8") if path.exists() else ""
        told[path] = text
    stale = [path for path, text in told.items() if text != texts[path]]
    for path in stale:
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(told[path], "utf-8")
        sys.stdout.write(f"{'stale' if check else 'wrote'} {path.relative_to(ROOT)}\n")
    return 1 if check and stale else 0


def pages(root: Path) -> list[Path]:
    """Return the README and every page of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
