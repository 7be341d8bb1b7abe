"""The views of ingest, as they are: judged files, state, and the runs of the index."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from typing import Any

from meterhouse.errors import EnvironmentFailureError
from meterhouse.intake.index import ROW_BYTES, run_sha256
from meterhouse.log.apply import judged_path
from meterhouse.log.state import JudgedFile, Run, State
from meterhouse.log.state_rows import COUNTS
from meterhouse.verify.ledger import Tally, columns_counted
from meterhouse.verify.report import Check
from meterhouse.verify.subject import Scope, Subject
from meterhouse.verify.truth import unreadable

__all__ = ["check_judged", "check_state"]

_JUDGED_NAME = re.compile(r"(?:0-joined/(?P<first>\d{12})-)?(?P<last>\d{12})\.parquet")
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
    state = subject.state
    listed = state.judged_files() if state is not None else _by_name(subject)
    if state is not None:
        _check_listed(subject, check, listed)
    for file in listed:
        data = _bytes(subject, check, file)
        if data is None or file.position > subject.covered:
            continue
        check.covered += 1
        if state is not None and file.position > scope.since:
            intact = check.expect(
                f"{file.size} bytes, {file.sha256}",
                f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}",
                "judged file does not hold what was written",
                file=file.path,
                entry=file.position,
                severity="rebuildable",
            )
            if not intact:
                continue
        _count(subject, check, file, data, kept, upto)
    return check


def _by_name(subject: Subject) -> list[JudgedFile]:
    """Return the judged files as their names say, where no state lists them.

    Those of data entries that are read count as there: who opens them finds them missing.
    """
    found = {
        entry.position: JudgedFile(entry.position, entry.source, 0, 0, "")
        for entry in subject.data_entries(upto=subject.covered)
    }
    for source in {entry.source for entry in subject.contract_entries}:
        # Joined files come first, and what they replaced may still lie there.
        joined = set[int]()
        for name in subject.blobs.list(f"judged/{source}"):
            match = _JUDGED_NAME.fullmatch(name.removeprefix(f"judged/{source}/"))
            if match is None or int(match["last"]) in joined:
                continue
            first, last = int(match["first"] or 0), int(match["last"])
            joined |= set(range(first, last + 1)) if first else set()
            found[last] = JudgedFile(last, source, 0, 0, "", first)
        for position in [at for at in joined if at in found and not found[at].first]:
            if found[position].source == source:
                del found[position]
    return [found[position] for position in sorted(found)]


def _check_listed(subject: Subject, check: Check, listed: list[JudgedFile]) -> None:
    """See that each data entry has rows in one of the files ``listed``."""
    by_source: dict[str, list[JudgedFile]] = {}
    for file in listed:
        by_source.setdefault(file.source, []).append(file)
    at = dict.fromkeys(by_source, 0)
    for entry in subject.data_entries(upto=subject.covered):
        files = by_source.get(entry.source, [])
        number = at.get(entry.source, 0)
        while number < len(files) and files[number].position < entry.position:
            number += 1
        at[entry.source] = number
        if number == len(files) or files[number].begins > entry.position:
            path = judged_path(entry.source, entry.position)
            check.fail("rebuildable", "judged file is not listed", file=path, entry=entry.position)


def _bytes(subject: Subject, check: Check, file: JudgedFile) -> bytes | None:
    try:
        return subject.blobs.read(file.path)
    except (OSError, EnvironmentFailureError) as error:
        what = unreadable("judged file", error)
        check.fail("rebuildable", what, file=file.path, entry=file.position)
        return None


def _count(
    subject: Subject,
    check: Check,
    file: JudgedFile,
    data: bytes,
    kept: dict[str, Tally],
    upto: dict[str, Tally],
) -> None:
    """Add up what a judged file holds, in all and up to the published position."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    published = subject.published.stamp.position if subject.published is not None else 0
    try:
        opened = pq.ParquetFile(io.BytesIO(data))
        contract = subject.contract_at(file.source, file.position)
        if contract is None:
            return  # check_log has said so
        wanted = columns_counted(contract, opened.schema_arrow.names)
        rows = opened.read(columns=[*wanted, "log_position"])
        tally = Tally()
        tally.add(contract, rows)
        kept.setdefault(file.source, Tally()).merge(tally)
        if file.begins > published:
            return
        if file.position > published:
            tally = Tally()
            tally.add(contract, rows.filter(pc.less_equal(rows["log_position"], published)))
        upto.setdefault(file.source, Tally()).merge(tally)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        check.fail(
            "rebuildable",
            f"judged file can't be read: {str(error).splitlines()[0]}",
            file=file.path,
            entry=file.position,
        )


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
    _check_totals(subject, check, state)
    for run in state.all_runs():
        check.covered += 1
        _check_run(subject, check, run)
    return check


def _check_totals(subject: Subject, check: Check, state: State) -> None:
    """Compare what the state counted with what the log says, entry by entry or as attested."""
    found, since = state.totals()
    if not subject.truth_holds or (subject.attested and since):
        return  # only all entries could tell, and not all are read
    expected: dict[str, list[Any]] = {}
    for segment in subject.segments if subject.attested else ():
        for source, sums in segment.attestation.sources.items():
            _add(expected.setdefault(source, [0, {}]), sums["entries"], sums["counts"])
    last: dict[str, tuple[int, str]] = {}
    for entry in subject.data_entries(since, upto=state.stamp().position):
        _add(expected.setdefault(entry.source, [0, {}]), 1, entry.counts)
        last[entry.source] = entry.position, entry.ingest_ts
    given = {one.source: [one.entries, dict(one.counts)] for one in found}
    lasts = {
        one.source: (one.last_position, one.last_ingest_ts)
        for one in found
        if one.source in last or not subject.attested
    }
    for wanted, there in ((expected, given), (last, lasts)):
        check.expect(
            wanted,
            there,
            "state view has other totals than the log",
            file="index/state.db",
            severity="rebuildable",
        )


def _add(sums: list[Any], entries: int, counts: Mapping[str, int]) -> None:
    sums[0] += entries
    sums[1] = {name: sums[1].get(name, 0) + counts.get(name, 0) for name in COUNTS}


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
