"""What ``rebuild`` must see and keep: a whole truth before, and the last answers until after."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from meterhouse.errors import DamageError, MeterhouseError
from meterhouse.lake.published import Published
from meterhouse.log.lock import one_writer
from meterhouse.ports import Stamp
from meterhouse.verify.chain import view_stamps
from meterhouse.verify.lake import check_lake
from meterhouse.verify.report import Check, Finding
from meterhouse.verify.served import check_serving
from meterhouse.verify.subject import Scope, Subject
from meterhouse.verify.truth import check_landing, check_log

__all__ = ["check_rebuildable", "drop_damaged_serving", "lake_set_aside", "last_generation"]

_ASIDE: Final = "lake.old"


def check_rebuildable(subject: Subject, *, accept_loss: bool) -> Stamp | None:
    """See that log and landing are whole, so that nothing is deleted that can't be made anew.

    Returns where the newest view stands that was made from entries which the log does not
    hold any more; None when there is none.

    Args:
        subject: The project; its views tell how far the log went.
        accept_loss: The views may know of entries that the log does not hold any more.

    Raises:
        DamageError: Something of the truth is damaged, or lost and not to be given up.
    """
    alone = Subject(subject.root, subject.blobs, subject.engine, None, None, None, subject.span)
    quick = Scope(quick=True, full=True)
    for check in (check_log(alone, quick), check_landing(alone, quick)):
        if check.findings:
            raise _damage(check)
    witnessed = check_log(subject, quick)
    lost = [found for found in witnessed.findings if found.severity == "broken"]
    if lost and not accept_loss:
        raise DamageError(
            lost[0].what,
            lost[0].file,
            "bring back the missing entries of log/ (docs/backup.md); to go on without them, "
            "for good: meterhouse rebuild --accept-loss. Nothing was changed",
        )
    if not lost:
        return None
    stamps = [one for one in view_stamps(subject).values() if subject.stamp_of(one.position) != one]
    return max(stamps, key=lambda stamp: (stamp.fork, stamp.position))


def last_generation(subject: Subject) -> int:
    """Return the last number that a generation had, as far as any view still tells; or 0."""
    found = [subject.published.generation] if subject.published is not None else []
    with suppress(OSError, MeterhouseError):
        # What an interrupted rebuild has set aside.
        aside = Published.from_bytes((subject.root / _ASIDE / "published.json").read_bytes())
        found.append(aside.generation)
    with suppress(OSError, MeterhouseError):
        answers = subject.serving.answers() if subject.serving is not None else None
        if answers is not None:
            found.append(int(answers.details.get("generation", 0)))
    return max(found, default=0)


def _damage(check: Check) -> DamageError:
    first: Finding = check.findings[0]
    more = len(check.findings) - 1
    return DamageError(
        f"{first.what}, which nothing can make anew" + (f" ({more} more)" if more else ""),
        first.file,
        "restore it from a backup (docs/backup.md), and see `meterhouse verify`; "
        "nothing was changed",
    )


def drop_damaged_serving(subject: Subject) -> None:
    """Delete the serving store when it does not hold what was published.

    A whole one stays, so that questions are answered until the new epoch replaces it. Tables
    of the lake that are damaged themselves bear no witness against it. One that stands where
    the log does not reach any more can't be gone on from.
    """
    check_lake(subject, Scope())
    if subject.published is not None and not check_serving(subject).findings:
        assert subject.serving is not None
        stamp = subject.serving.stamp()
        if stamp is None or subject.stamp_of(stamp.position) == stamp:
            return
    for end in ("", "-wal", "-shm", "-journal"):
        path = subject.root / f"serving.db{end}"
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


@contextmanager
def lake_set_aside(
    root: Path, lock: Path, waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Move the lake out of the way; bring it back when no other was published meanwhile.

    Args:
        root: The project.
        lock: Held while folders are moved, so that no batch is writing to them.
        waiting: Called when a batch has to end first.
    """
    lake, aside = root / "lake", root / _ASIDE
    with one_writer(lock, waiting):
        if not aside.exists() and lake.exists():
            lake.rename(aside)
        # Else an earlier rebuild was interrupted: what it left can be made again.
        _remove(lake)
    try:
        yield
    finally:
        with one_writer(lock, waiting):
            if (lake / "published.json").exists():
                _remove(aside)
            elif aside.exists():
                _remove(lake)
                aside.rename(lake)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)
