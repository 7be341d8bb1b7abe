"""A new project folder, and how later shipped contracts and models come into an old one.

What is in the project's ``contracts/`` and ``models/`` is what runs. Beside them,
``.meterhouse/catalog/`` keeps the files as they were shipped: the common ancestor that
lets an update tell the user's changes from ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from meterhouse.config import FILE_NAME, default_text
from meterhouse.errors import ConfigError, ContractError

__all__ = ["SHIPPED", "Difference", "catalog_diff", "catalog_update", "init", "merge"]

SHIPPED: Final = Path(__file__).with_name("catalog")
"""The catalog of this release."""

BASE: Final = ".meterhouse/catalog"
IGNORED: Final = """\
# What the product makes. Contracts, models and settings belong under version control.
/inbox/
/landing/
/log/
/judged/
/index/
/lake/
/serving.db*
/alerts.db*
/alerts.jsonl
/generations/
/.locks/
/.requests/
/.tmp/
/.meterhouse/batch.log
/.meterhouse/follow.json
"""

PATTERNS: Final = (
    ("contracts", "**/*.yaml"),
    ("models", "**/*.sql"),
    ("models", "**/*.yaml"),
    ("", "alerts.yaml"),
)
"""Folders of the catalog, and what of them belongs to it."""

State = Literal[
    "added", "updated", "removed", "merged", "conflict", "yours", "kept", "deleted by you", "open"
]
"""added, updated, removed: shipped changes to files you did not touch. merged: both changed,
in different places. conflict: both changed the same lines. yours, kept, deleted by you: your
change stays, nothing newer is shipped or it was not taken. open: a .new file waits."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One file in which project and shipped catalog differ."""

    path: str
    """Relative to the project."""
    state: State
    diff: str
    """Unified diff from the project's text to the shipped one."""


def init(folder: Path) -> list[str]:
    """Make a project in ``folder``; return what was made, relative to it.

    The settings file is written last: a folder that holds it is a whole project, and
    after a crash the same call finishes the work.

    Raises:
        ConfigError: It is a project already, or a file that would be written is there
            with other content. Nothing was written.
    """
    if (folder / FILE_NAME).exists():
        raise ConfigError(
            "folder is a project already",
            str(folder / FILE_NAME),
            "bring newer contracts and models into it with `meterhouse catalog update`",
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError("it is a file, not a folder", str(folder), "choose another name")
    shipped = catalog_texts(SHIPPED)
    files = {**shipped, **{f"{BASE}/{name}": text for name, text in shipped.items()}}
    for name, text in files.items():
        path = folder / name
        if path.exists() and (not path.is_file() or path.read_bytes() != text.encode()):
            raise ConfigError(
                f'"{name}" is in the way', str(path), "choose an empty folder, or move it away"
            )
    for name, text in files.items():
        write(folder / name, text)
    (folder / "inbox").mkdir(exist_ok=True)
    folders = {f"{Path(name).parent}/" if "/" in name else name for name in shipped}
    made = [*sorted(folders), "inbox/"]
    if not (folder / ".gitignore").exists():
        write(folder / ".gitignore", IGNORED)
        made.append(".gitignore")
    write(folder / FILE_NAME, default_text())
    return [FILE_NAME, *made]


def catalog_diff(project: Path, shipped: Path = SHIPPED) -> list[Difference]:
    """Return what differs between the project's catalog and the shipped one, by path.

    The state says what ``catalog_update`` would do with the file.
    """
    return [difference for difference, _ in compared(project, shipped)]


def catalog_update(project: Path, shipped: Path = SHIPPED) -> list[Difference]:
    """Bring shipped changes into the project; return every file that differed.

    A file changed on both sides is merged line by line. Where that is not possible the
    project's file stays as it is, and the shipped one is put beside it as ``.new``. Safe
    to repeat.
    """
    found = list(compared(project, shipped))
    for difference, text in found:
        path = project / difference.path
        if difference.state in ("added", "updated", "merged") and text is not None:
            write(path, text)
        elif difference.state == "removed":
            path.unlink()
        elif difference.state == "conflict" and text is not None:
            write(new_file(path), text)
    # The base moves last: a crash before this repeats the same steps.
    theirs, base = catalog_texts(shipped), catalog_texts(project / BASE)
    for name, text in theirs.items():
        if base.get(name) != text:
            write(project / BASE / name, text)
    for name in base.keys() - theirs.keys():
        (project / BASE / name).unlink()
    return [difference for difference, _ in found]


def compared(project: Path, shipped: Path) -> Iterator[tuple[Difference, str | None]]:
    """Yield every difference, with the text that an update would write for it."""
    theirs, base, ours = (
        catalog_texts(shipped),
        catalog_texts(project / BASE),
        catalog_texts(project),
    )
    for name in sorted({*theirs, *base, *ours}):
        state, text = decide(name, base.get(name), ours.get(name), theirs.get(name))
        if new_file(project / name).exists() and state in (None, "yours"):
            state, text = "open", None
        if state is not None:
            diff = unified(name, ours.get(name, ""), theirs.get(name, ""))
            yield Difference(name, state, diff), text


def decide(
    name: str, base: str | None, ours: str | None, theirs: str | None
) -> tuple[State | None, str | None]:
    """Return what an update does with one file, and the text it writes.

    ``None`` as a text means that the file is not there; as a state, that nothing differs.
    """
    if ours == theirs:
        return None, None
    if theirs == base:
        return ("deleted by you" if ours is None else "yours"), None
    if ours == base:
        if theirs is None:
            return "removed", None
        return ("added" if ours is None else "updated"), theirs
    if theirs is None:
        return "kept", None
    if ours is None:
        return "deleted by you", None
    merged = merge(lines(base or ""), lines(ours), lines(theirs)) if base is not None else None
    if merged is None or not sound(name, "".join(merged)):
        return "conflict", theirs
    return "merged", "".join(merged)


def merge(base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> list[str] | None:
    """Return ``base`` with the changes of both sides, None where they touch the same lines.

    Changes that meet without a common line between them count as touching.
    """
    merged: list[str] = []
    at_base = at_ours = at_theirs = 0
    for lo, hi, in_ours, in_theirs in common_runs(base, ours, theirs):
        old = list(base[at_base:lo])
        left, right = list(ours[at_ours:in_ours]), list(theirs[at_theirs:in_theirs])
        if left == right or right == old:
            merged += left
        elif left == old:
            merged += right
        else:
            return None
        merged += base[lo:hi]
        at_base, at_ours, at_theirs = hi, in_ours + hi - lo, in_theirs + hi - lo
    return merged


def common_runs(
    base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield runs of lines that all three share: (lo, hi) in base, start in ours and theirs.

    The last one is empty and stands at the three ends.
    """
    left = difflib.SequenceMatcher(None, base, ours, autojunk=False).get_matching_blocks()
    right = difflib.SequenceMatcher(None, base, theirs, autojunk=False).get_matching_blocks()
    i = j = 0
    while i < len(left) and j < len(right):
        lo = max(left[i].a, right[j].a)
        hi = min(left[i].a + left[i].size, right[j].a + right[j].size)
        if lo < hi:
            yield lo, hi, left[i].b + lo - left[i].a, right[j].b + lo - right[j].a
        if left[i].a + left[i].size < right[j].a + right[j].size:
            i += 1
        else:
            j += 1
    yield len(base), len(base), len(ours), len(theirs)


def sound(name: str, text: str) -> bool:
    """Return whether a merged file can still be read; lines can merge into nonsense."""
    if name.startswith("models/"):
        return True
    # Only here: a fresh project and a clean update need no SQL parser.
    from meterhouse.intake.contracts import parse_contract
    from meterhouse.intake.document import read_document

    try:
        if name.startswith("contracts/"):
            parse_contract(text, name)
        else:
            read_document(text, name)
    except ContractError:
        return False
    return True


def catalog_texts(root: Path) -> dict[str, str]:
    """Return the contracts, models and alert rules of ``root`` by relative name, sorted."""
    found = {
        path.relative_to(root).as_posix(): path.read_bytes().decode("utf-8", "surrogateescape")
        for folder, pattern in PATTERNS
        for path in (root / folder).glob(pattern)
        if path.is_file()
    }
    return dict(sorted(found.items()))


def lines(text: str) -> list[str]:
    """Return the lines of ``text`` with their ends."""
    return text.splitlines(keepends=True)


def unified(name: str, ours: str, theirs: str) -> str:
    """Return a unified diff from the project's text to the shipped one."""
    return "\n".join(
        difflib.unified_diff(
            ours.splitlines(), theirs.splitlines(), f"yours/{name}", f"shipped/{name}", lineterm=""
        )
    )


def new_file(path: Path) -> Path:
    """Return where the shipped text of a conflict is put."""
    return path.with_name(path.name + ".new")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(text.encode("utf-8", "surrogateescape"))
    part.replace(path)
