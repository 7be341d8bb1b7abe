"""The views of ingest, as they are: judged files, state, and the runs of the index."""

from __future__ import annotations

import hashlib
import io
import re

from meterhouse.errors import EnvironmentFailureError
from meterhouse.intake.index import ROW_BYTES, run_sha256
from meterhouse.log.apply import judged_path
from meterhouse.log.entry import Entry
from meterhouse.log.state import JudgedFile, Run
from meterhouse.verify.ledger import Tally, columns_counted
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Scope, Subject
from meterhouse.verify.truth import unreadable

__all__ = ["check_judged", "check_state"]

_RUN_NAME = re.compile(r"(\d{12})-\d{2,}-(\d+)\.run\Z")


def check_judged(
    subject: Subject, scope: Scope, kept: dict[str, Tally], upto: dict[str, Tally]
) -> Check:
    """Hash every judged file and count its records and money, by source.

    Entries that the views do not cover yet have no judged file to look at.

    Args:
        subject: The project.
        scope: Files of entries up to ``scope.since`` are counted and not hashed.
        kept: Filled with what all judged files hold.
        upto: Filled with what those up to the published position hold.
    """
    check = Check("judged", unit="files")
    listed: dict[int, JudgedFile] | None = None
    if subject.state is not None:
        listed = {file.position: file for file in subject.state.judged_files()}
    for entry in subject.data_entries(upto=subject.covered):
        path = judged_path(entry.source, entry.position)
        data = _bytes(subject, check, entry, path)
        if data is None:
            continue
        check.covered += 1
        if listed is not None and not _as_listed(check, entry, path, data, listed, scope):
            continue
        tally = _counted(subject, check, entry, path, data)
        kept.setdefault(entry.source, Tally()).merge(tally)
        if subject.published is not None and entry.position <= subject.published.stamp.position:
            upto.setdefault(entry.source, Tally()).merge(tally)
    return check


def _as_listed(
    check: Check,
    entry: Entry,
    path: str,
    data: bytes,
    listed: dict[int, JudgedFile],
    scope: Scope,
) -> bool:
    file = listed.get(entry.position)
    if file is None:
        check.fail("rebuildable", "judged file is not listed", file=path, entry=entry.position)
        return True
    if entry.position <= scope.since:
        return True
    return check.expect(
        f"{file.size} bytes, {file.sha256}",
        f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}",
        "judged file does not hold what was written",
        file=path,
        entry=entry.position,
        severity="rebuildable",
    )


def _bytes(subject: Subject, check: Check, entry: Entry, path: str) -> bytes | None:
    try:
        return subject.blobs.read(path)
    except (OSError, EnvironmentFailureError) as error:
        check.fail("rebuildable", unreadable("judged file", error), file=path, entry=entry.position)
        return None


def _counted(subject: Subject, check: Check, entry: Entry, path: str, data: bytes) -> Tally:
    import pyarrow as pa
    import pyarrow.parquet as pq

    contract, tally = subject.contract_of(entry), Tally()
    if contract is None:
        return tally  # check_log has said so
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        rows = file.read(columns=columns_counted(contract, file.schema_arrow.names))
        tally.add(contract, rows)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        check.fail(
            "rebuildable",
            f"judged file can't be read: {str(error).splitlines()[0]}",
            file=path,
            entry=entry.position,
        )
    return tally


def check_state(subject: Subject) -> Check:
    """See that the state view is not behind, and that its runs hold what was written."""
    check = Check("index", unit="files")
    state = subject.state
    if state is None:
        return check
    check.covered = 1
    published = subject.published.stamp.position if subject.published is not None else 0
    if state.stamp().position < published:
        check.fail(
            "rebuildable",
            "state view ends before what the lake was made from",
            file="index/state.db",
            expected=f"entry {published}",
            found=f"entry {state.stamp().position}",
        )
    for run in state.all_runs():
        check.covered += 1
        _check_run(subject, check, run)
    return check


def _check_run(subject: Subject, check: Check, run: Run) -> None:
    name = f"index/{run.source}/{run.which}/{run.name}"
    path = subject.root / name
    try:
        size, sha256 = path.stat().st_size, run_sha256(path)
    except OSError as error:
        check.fail("rebuildable", unreadable("run of the index", error), file=name)
        return
    check.expect(
        run.sha256,
        sha256,
        "run of the index does not hold what was written",
        file=name,
        severity="rebuildable",
    )
    named = _RUN_NAME.match(run.name)
    check.expect(
        (run.rows, run.position, run.tier),
        (size // ROW_BYTES, int(named[1]) if named else -1, int(named[2]) if named else -1),
        "state view lists other rows, position or tier for a run of the index than it has",
        file="index/state.db",
        severity="rebuildable",
    )
