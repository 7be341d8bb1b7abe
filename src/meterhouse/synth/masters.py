"""The seven CSV sources: masters, invoices, tickets, touches, surveys, and corrections.

Every file comes with what each of its rows must be judged as: the rows are few.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from meterhouse.synth.text import Ints, plain
from meterhouse.synth.truth import Tally
from meterhouse.synth.world import TIERS, Org, World, generator, scattered_ids

__all__ = ["CsvFile", "Masters", "make_masters"]

Row = dict[str, str]
CENT = 10**7
"""A cent in 1e-9."""
MONEY = ("subtotal", "credits", "taxes")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """One file to deliver."""

    name: str
    data: bytes


@dataclass
class Masters:
    """All CSV files, what must come of them, and what was corrected on purpose."""

    files: list[CsvFile] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)
    corrections: dict[str, list[str]] = field(default_factory=dict)

    def deliver(self, source: str, suffix: str, rows: list[Row], verdicts: list[str]) -> CsvFile:
        """Add one file of ``source``; a verdict is "accepted", "duplicate" or a reason."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows(row.values() for row in rows)
        made = CsvFile(f"{source}{suffix}.csv", text.getvalue().encode())
        self.files.append(made)
        self._count(source, rows, verdicts)
        return made

    def redeliver(self, source: str, suffix: str, made: CsvFile, rows: list[Row]) -> None:
        """Add the same bytes under another name: all duplicates."""
        self.files.append(CsvFile(f"{source}{suffix}.csv", made.data))
        self._count(source, rows, ["duplicate"] * len(rows))

    def _count(self, source: str, rows: list[Row], verdicts: list[str]) -> None:
        tally = self.tallies.setdefault(source, Tally())
        for row, verdict in zip(rows, verdicts, strict=True):
            known = verdict in ("accepted", "duplicate")
            verdict, reason = (verdict, "") if known else ("quarantined", verdict)
            tally.count(verdict, reason)
            for column in MONEY if source == "billing_monthly" else ():
                amount = _nano(row[column])
                tally.add(verdict, column, row["currency"], amount, reason)


def _nano(text: str) -> int:
    whole, _, decimals = text.partition(".")
    size = int(whole.lstrip("-") or 0) * 10**9 + int(decimals.ljust(9, "0"))
    return -size if text.startswith("-") else size


def make_masters(world: World, metered: Ints, months: list[date]) -> Masters:
    """Return all CSV files; invoices follow what was ``metered`` (org x month, 1e-4 USD)."""
    made = Masters()
    makers: tuple[Callable[[Masters, World, np.random.Generator], None], ...] = (
        _orgs,
        _users,
        _resources,
        _tickets,
        _touches,
        _surveys,
    )
    for number, maker in enumerate(makers):
        maker(made, world, generator(world.options, 4, number))
    _invoices(made, world, metered, months, generator(world.options, 5))
    return made


def later(world: World, days: int) -> str:
    """Return the suffix of a file delivered ``days`` after the period."""
    return f"_{world.options.start + timedelta(world.options.days + days):%Y%m%d}"


def _one_of(random: np.random.Generator, *choices: str) -> str:
    return choices[int(random.integers(0, len(choices)))]


def _day(world: World, random: np.random.Generator, before: int = 30) -> date:
    """Return a day of the period or up to ``before`` days earlier."""
    return world.options.start + timedelta(int(random.integers(-before, world.options.days)))


def _org_row(world: World, org: Org, random: np.random.Generator) -> Row:
    score = "" if random.integers(0, 8) == 0 else f"{random.integers(-38, 102)}.0"
    return {
        "org_id": org.id,
        "org_name": org.name,
        "industry": org.industry,
        "hq_region": org.region,
        "plan_tier": org.tier,
        "is_enterprise": str(org.tier == "enterprise"),
        "signup_date": org.signup.isoformat(),
        "sales_rep": _one_of(random, "rep_a", "rep_b", "rep_c", "rep_d", "rep_e"),
        "lifecycle_stage": _one_of(random, "active", "active", "active", "at_risk", "prospect"),
        "marketing_source": _one_of(random, "ads", "event", "organic", "partner", "referral"),
        "nps_score": score,
    }


def _orgs(made: Masters, world: World, random: np.random.Generator) -> None:
    """Two snapshots: later some are renamed, those who left have churned, one is gone."""
    rows = [_org_row(world, org, random) for org in world.orgs]
    made.deliver("customers_orgs", "", rows, ["accepted"] * len(rows))
    second, verdicts, renamed = [], [], []
    for place, (org, row) in enumerate(zip(world.orgs, rows, strict=True)):
        changed = dict(row)
        if place % 25 == 3:
            changed["org_name"] = f"{row['org_name']} Group"
            renamed.append(org.id)
        if org.churn_day is not None:
            changed["lifecycle_stage"] = "churned"
        if place == len(rows) - 1 and len(rows) >= 10:
            made.corrections["orgs_removed"] = [org.id]
            continue
        second.append(changed)
        verdicts.append("duplicate" if changed == row else "accepted")
    if "accepted" in verdicts:
        made.deliver("customers_orgs", later(world, 2), second, verdicts)
    made.corrections["orgs_renamed"] = renamed


def _users(made: Masters, world: World, random: np.random.Generator) -> None:
    """One snapshot, delivered again under another name."""
    rows = []
    for identifier in scattered_ids("user", len(world.orgs) * 10, world.options.seed * 5 + 1):
        created = _day(world, random)
        seen = created + timedelta(int(random.integers(0, 60)))
        rows.append(
            {
                "user_id": identifier,
                "org_id": world.orgs[int(random.integers(0, len(world.orgs)))].id,
                "email": f"{identifier}@example.com",
                "role": _one_of(random, "admin", "analyst", "data_engineer", "developer", "devops"),
                "active": str(bool(random.integers(0, 11))),
                "created_at": created.isoformat(),
                "last_login": "" if random.integers(0, 6) == 0 else seen.isoformat(),
            }
        )
    first = made.deliver("users", "", rows, ["accepted"] * len(rows))
    made.redeliver("users", later(world, 1), first, rows)


def _resources(made: Masters, world: World, random: np.random.Generator) -> None:
    """Two snapshots: later some are terminated."""
    tags = ("env:prod", "env:dev", "pii:true", "team:ml", "team:web", "costcenter:beta")
    rows = []
    for item in world.resources:
        if not item.listed:
            continue
        picked = [tags[place] for place in random.integers(0, len(tags), random.integers(0, 4))]
        quoted = ", ".join(f'"{tag}"' for tag in picked)
        rows.append(
            {
                "resource_id": item.id,
                "org_id": world.orgs[item.org].id,
                "service": item.service,
                "region": item.region,
                "created_at": _day(world, random).isoformat(),
                "state": _one_of(random, "running", "running", "stopped", "terminated"),
                "tags_json": f"[{quoted}]" if picked else "",
            }
        )
    made.deliver("resources", "", rows, ["accepted"] * len(rows))
    second = [
        {**row, "state": "terminated"} if place % 20 == 7 else row for place, row in enumerate(rows)
    ]
    verdicts = [
        "duplicate" if new == old else "accepted" for new, old in zip(second, rows, strict=True)
    ]
    if "accepted" in verdicts:
        made.deliver("resources", later(world, 2), second, verdicts)


def _tickets(made: Masters, world: World, random: np.random.Generator) -> None:
    """All tickets; later some are resolved, then re-opened, then resolved as before."""
    severities = ("low",) * 8 + ("medium",) * 6 + ("high",) * 4 + ("critical",)
    rows, verdicts = [], []
    for identifier in scattered_ids("tkt", len(world.orgs) * 12, world.options.seed * 5 + 2):
        created = _day(world, random)
        open_still = random.integers(0, 4) == 0
        score = "" if random.integers(0, 4) == 0 else f"{random.integers(0, 8)}.0"
        row = {
            "ticket_id": identifier,
            "org_id": world.orgs[int(random.integers(0, len(world.orgs)))].id,
            "category": _one_of(random, "availability", "billing", "integration", "security"),
            "severity": _one_of(random, *severities),
            "created_at": created.isoformat(),
            "resolved_at": ""
            if open_still
            else (created + timedelta(int(random.integers(0, 12)))).isoformat(),
            "csat": score,
            "sla_breached": str(random.integers(0, 10) == 0),
        }
        broken = random.integers(0, 10**6) < world.options.poison * 10**6
        if broken:
            row["created_at"] = "yesterday"
        rows.append(row)
        verdicts.append("created_at_unreadable" if broken else "accepted")
    made.deliver("support_tickets", "", rows, verdicts)
    waiting = [
        row
        for row, verdict in zip(rows, verdicts, strict=True)
        if verdict == "accepted" and not row["resolved_at"]
    ][: max(len(rows) // 20, 1)]
    end = (world.options.start + timedelta(world.options.days + 1)).isoformat()
    resolved = [{**row, "resolved_at": end} for row in waiting]
    again = [place for place in range(len(waiting)) if place % 3 == 0]
    steps = ((2, resolved), (5, [waiting[at] for at in again]), (8, [resolved[at] for at in again]))
    for days, changed in steps:
        if changed:
            made.deliver(
                "support_tickets", later(world, days), changed, ["accepted"] * len(changed)
            )
    made.corrections["tickets_resolved_later"] = [row["ticket_id"] for row in waiting]
    made.corrections["tickets_reopened_and_resolved"] = [waiting[at]["ticket_id"] for at in again]


def _touches(made: Masters, world: World, random: np.random.Generator) -> None:
    rows = []
    for identifier in scattered_ids("mkt", len(world.orgs) * 18, world.options.seed * 5 + 3):
        clicked = random.integers(0, 10) < 3
        rows.append(
            {
                "touch_id": identifier,
                "org_id": world.orgs[int(random.integers(0, len(world.orgs)))].id,
                "campaign": _one_of(
                    random, "genai_launch", "security_week", "upgrade_pro", "welcome"
                ),
                "channel": _one_of(random, "ads", "email", "event", "in_app"),
                "timestamp": _day(world, random).isoformat(),
                "clicked": str(clicked),
                "converted": str(bool(clicked and random.integers(0, 4) == 0)),
            }
        )
    made.deliver("marketing_touches", "", rows, ["accepted"] * len(rows))
    late = rows[-max(len(rows) // 50, 1) :]
    verdicts = ["duplicate"] * len(late)
    if world.options.conflicts:
        late = [{**late[0], "channel": "unheard_of"}, *late[1:]]
        verdicts[0] = "conflicting_duplicate"
    made.deliver("marketing_touches", later(world, 2), late, verdicts)


def _surveys(made: Masters, world: World, random: np.random.Generator) -> None:
    comments = ("", "Complex billing", "Great support", 'Says "fine", means it', "Too expensive")
    rows: dict[tuple[str, str], Row] = {}
    for _ in range(max(len(world.orgs) * 6 // 5, 1)):
        org = world.orgs[int(random.integers(0, len(world.orgs)))].id
        day = _day(world, random).isoformat()
        score = "" if random.integers(0, 5) == 0 else f"{random.integers(-16, 70)}.0"
        rows[org, day] = {
            "org_id": org,
            "survey_date": day,
            "nps_score": score,
            "comment": _one_of(random, *comments),
        }
    made.deliver("nps_surveys", "", list(rows.values()), ["accepted"] * len(rows))


def _invoices(
    made: Masters, world: World, metered: Ints, months: list[date], random: np.random.Generator
) -> None:
    """One invoice per organisation and month; later some are corrected, some of them back.

    Most follow what was metered to the cent; one in six does not, as in life.
    """
    rows: list[Row] = []
    verdicts: list[str] = []
    ids = scattered_ids("inv", len(world.orgs) * len(months), world.options.seed * 5 + 4)
    for place, identifier in enumerate(ids):
        number, month = divmod(place, len(months))
        currency = "USD" if number % 3 else ("ARS", "EUR")[number // 3 % 2]
        cents = int(metered[number, month]) // 100
        if random.integers(0, 6) == 0:
            cents = cents * int(random.integers(60, 140)) // 100 + int(random.integers(0, 50_000))
        if random.integers(0, 20) == 0:
            cents = -int(random.integers(100, 90_000))
        row = _invoice(identifier, world.orgs[number], months[month], currency, cents, random)
        broken = random.integers(0, 10**6) < world.options.poison * 10**6
        if broken:
            row["exchange_rate_to_usd"] = _one_of(random, "", "0", "-1.0")
        rows.append(row)
        verdicts.append("rate_missing" if broken else "accepted")
    made.deliver("billing_monthly", "", rows, verdicts)
    sound = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict == "accepted"]
    wrong, unchanged = sound[: max(len(rows) // 20, 1)], sound[-max(len(rows) // 40, 1) :]
    unchanged = [row for row in unchanged if row not in wrong]
    corrected = [{**row, "subtotal": _raised(row["subtotal"], 1)} for row in wrong]
    if not wrong:
        return
    expected = ["accepted"] * len(corrected) + ["duplicate"] * len(unchanged)
    made.deliver("billing_monthly", later(world, 5), corrected + unchanged, expected)
    # Every other one is corrected back to what it was, the rest once more.
    final = [
        row if place % 2 else {**row, "subtotal": _raised(row["subtotal"], 2)}
        for place, row in enumerate(wrong)
    ]
    made.deliver("billing_monthly", later(world, 9), final, ["accepted"] * len(final))
    made.corrections["invoices_corrected_twice"] = [row["invoice_id"] for row in final[::2]]
    made.corrections["invoices_corrected_and_back"] = [row["invoice_id"] for row in final[1::2]]


def _invoice(
    identifier: str, org: Org, month: date, currency: str, cents: int, random: np.random.Generator
) -> Row:
    """Return an invoice over ``cents`` of USD in its currency; the rate is rarely 1."""
    low, high = {"USD": (98_000, 102_000), "EUR": (107_000, 117_000), "ARS": (140, 160)}[currency]
    rate = (
        100_000 if currency == "USD" and TIERS[org.tier][0] > 4 else int(random.integers(low, high))
    )
    subtotal = cents * 100_000 // rate
    credit = 0 if random.integers(0, 5) < 3 else abs(subtotal) * int(random.integers(1, 6)) // 100
    return {
        "invoice_id": identifier,
        "org_id": org.id,
        "month": month.isoformat(),
        "subtotal": plain(subtotal, 2),
        "credits": plain(credit, 2) if credit else "",
        "taxes": plain(max(subtotal, 0) * 21 // 100, 2),
        "currency": currency,
        "exchange_rate_to_usd": plain(rate, 5),
    }


def _raised(amount: str, times: int) -> str:
    """Return ``amount`` and 12.34 for each time it was corrected."""
    return plain(_nano(amount) // CENT + 1234 * times, 2)
