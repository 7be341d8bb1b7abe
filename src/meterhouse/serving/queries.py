"""The six questions, answered from one position of the serving store.

Decimals are added exactly and divided once, at the end: 6 places, half-even. Imports
nothing but the standard library, for ``meterhouse query`` answers within 300 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from meterhouse.errors import UsageError, nearest
from meterhouse.formats import Column, Kind
from meterhouse.serving.answer import Answer, AsOf, Coverage
from meterhouse.serving.arguments import Arguments, arguments
from meterhouse.serving.schema import Condition, Snapshot

__all__ = ["QUESTIONS", "Question", "ask", "question"]

USAGE: Final = "gold.org_daily_usage_by_service"
TICKETS: Final = "gold.tickets_by_org_date"
REVENUE: Final = "gold.revenue_by_org_month"
GENAI: Final = "gold.genai_tokens_by_org_date"
ANOMALIES: Final = "gold.cost_anomaly_mart"

_DAYS: Final = {USAGE: "usage_date", TICKETS: "ticket_date"}
_EXACT: Final = Context(prec=400)
"""Longer than any sum of DECIMAL(38,9), and than any quotient needs to be told from a tie."""
_MICRO: Final = Decimal("0.000001")
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Found:
    columns: Sequence[Column]
    rows: Iterable[tuple[Any, ...]]
    sort: tuple[int, ...]
    """Indices of the grain's columns."""
    coverage: tuple[Coverage, ...] = ()
    window: tuple[date, date] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question: what it takes and how it is answered."""

    name: str
    summary: str
    options: tuple[str, ...]
    tables: tuple[str, ...]
    """Gold tables the answer is read from."""
    answer: Callable[[Snapshot, Arguments], _Found] = field(repr=False)


def question(name: str) -> Question:
    """Return the question of that name.

    Raises:
        UsageError: There is none; names the nearest.
    """
    if name not in QUESTIONS:
        raise UsageError.unknown("question", name, QUESTIONS)
    return QUESTIONS[name]


def ask(snapshot: Snapshot, name: str, given: Mapping[str, object], now: datetime) -> Answer:
    """Answer question ``name`` with the arguments ``given`` (as text or as values).

    Raises:
        UsageError: The question, an argument, the organisation or the service does not
            exist; the nearest is named.
    """
    asked = question(name)
    checked = arguments(name, asked.options, given)
    served = snapshot.served
    for table in asked.tables:
        if table not in snapshot.tables():
            raise UsageError(
                f'question "{name}" needs {table}, which is not published',
                "",
                "put its model back (`meterhouse catalog update`) and run `meterhouse batch`",
            )
    _check_known(snapshot, checked)
    found = asked.answer(snapshot, checked)
    # NULL sorts last, as in the tables.
    rows = sorted(found.rows, key=lambda row: [(row[i] is None, row[i]) for i in found.sort])
    as_of = AsOf.at(served.stamp.position, served.ingest_ts, now)
    as_of = AsOf.of_tables(as_of, asked.tables, served.details, now)
    as_of = as_of.behind(asked.tables, served.behind, now)
    return Answer(tuple(found.columns), rows, as_of, found.coverage, found.window)


def _columns(**kinds: Kind) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in kinds.items())


def _check_known(snapshot: Snapshot, given: Arguments) -> None:
    checks = (
        ("organisation", "org_id", given.org, None),
        ("service", "service", given.service, None),
        ("severity", "severity", given.severity, TICKETS),
    )
    for kind, column, value, only in checks:
        if value is None:
            continue
        tables = [
            name
            for name, columns in snapshot.tables().items()
            if column in {item.name for item in columns} and only in (None, name)
        ]
        where = [Condition(column, "=", value)]
        if any(True for table in tables for _ in snapshot.scan(table, [column], where)):
            continue
        known = {str(item) for table in tables for item in snapshot.distinct(table, column)}
        raise _unknown(kind, value, known)


def _unknown(kind: str, value: str, known: set[str]) -> UsageError:
    hint = nearest(value, known)
    listed = sorted(known)[:10]
    some = f"there are {len(known):,}: {', '.join(listed)}{', …' if len(known) > 10 else ''}"
    fix = f'did you mean "{hint}"?' if hint else some if known else "there is none yet"
    return UsageError(f'no served table has {kind} "{value}"', "", fix)


def _conditions(given: Arguments, day: str, **equal: str | None) -> list[Condition]:
    """Return the filters of a question; ``--from`` and ``--to`` are inclusive."""
    named = {"org_id": given.org, "service": given.service} | equal
    found = [Condition(name, "=", value) for name, value in named.items() if value is not None]
    if given.day_from:
        found.append(Condition(day, ">=", given.day_from.isoformat()))
    if given.day_to:
        found.append(Condition(day, "<=", given.day_to.isoformat()))
    return found


def _window(
    snapshot: Snapshot, given: Arguments, table: str, default: int
) -> tuple[date, date] | None:
    """Return the last N days up to --as-of, else up to the table's latest believable day."""
    last = given.as_of or _latest_day(snapshot, table)
    if last is None:
        return None
    before = (given.days or default) - 1
    return date.fromordinal(max(1, last.toordinal() - before)), last


def _latest_day(snapshot: Snapshot, table: str) -> date | None:
    """Return the latest day not after the ingestion of its own row, whatever the filters.

    The batch found it, row by row, so one event from the year 2099 moves nothing. A store
    loaded without it gives the latest day not after the ingestion of its last entry.
    """
    found = snapshot.served.details.get("latest_day")
    if found is not None:
        return date.fromisoformat(found[table]) if table in found else None
    column = _DAYS[table]
    ingested = snapshot.served.ingest_ts.date().isoformat()
    days = snapshot.scan(table, [column], [Condition(column, "<=", ingested)])
    return max((day for (day,) in days), default=None)


def _within(window: tuple[date, date], day: str) -> list[Condition]:
    first, last = window
    return [Condition(day, ">=", first.isoformat()), Condition(day, "<=", last.isoformat())]


def _ratio(numerator: Decimal | int, denominator: Decimal | int) -> Decimal | None:
    """Return numerator / denominator, 6 places, half-even; None when the denominator is 0."""
    if not denominator:
        return None
    exact = _EXACT.divide(Decimal(numerator), Decimal(denominator))
    return exact.quantize(_MICRO, rounding=ROUND_HALF_EVEN, context=_EXACT)


def _daily_cost(snapshot: Snapshot, given: Arguments) -> _Found:
    reported = events = 0
    rows = []
    columns = ("usage_date", "org_id", "service", "daily_cost_usd", "requests")
    counts = ("requests_reported_count", "event_count")
    for row in snapshot.scan(USAGE, [*columns, *counts], _conditions(given, "usage_date")):
        rows.append(row[:5])
        reported += row[5]
        events += row[6]
    return _Found(
        columns=_columns(
            usage_date="date", org_id="text", service="text", cost_usd="decimal", requests="decimal"
        ),
        rows=rows,
        sort=(0, 1, 2),
        coverage=(Coverage("requests", reported, events, "events"),),
    )


def _top_services(snapshot: Snapshot, given: Arguments) -> _Found:
    window = _window(snapshot, given, USAGE, 14)
    costs: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    if window:
        where = [*_conditions(given, "usage_date"), *_within(window, "usage_date")]
        for org, service, cost in snapshot.scan(
            USAGE, ["org_id", "service", "daily_cost_usd"], where
        ):
            costs[org][service] = _EXACT.add(costs[org][service], cost)
    rows = []
    for org, by_service in costs.items():
        ranked = sorted(by_service.items(), key=lambda item: (-item[1], item[0]))
        for rank, (service, cost) in enumerate(ranked[: given.limit], 1):
            rows.append((org, rank, service, cost))
    return _Found(
        columns=_columns(org_id="text", rank="integer", service="text", cost_usd="decimal"),
        rows=rows,
        sort=(0, 1),
        window=window,
    )


def _ticket_sla(snapshot: Snapshot, given: Arguments) -> _Found:
    window = _window(snapshot, given, TICKETS, 30)
    counts: defaultdict[date, list[int]] = defaultdict(lambda: [0, 0])
    if window:
        severity = given.severity or "critical"
        where = [
            *_conditions(given, "ticket_date", severity=severity),
            *_within(window, "ticket_date"),
        ]
        columns = ["ticket_date", "ticket_count", "sla_breached_count"]
        for day, tickets, breached in snapshot.scan(TICKETS, columns, where):
            counts[day][0] += tickets
            counts[day][1] += breached
    return _Found(
        columns=_columns(
            ticket_date="date",
            ticket_count="integer",
            sla_breached_count="integer",
            sla_breach_rate="decimal",
        ),
        rows=[(day, n, breached, _ratio(breached, n)) for day, (n, breached) in counts.items()],
        sort=(0,),
        window=window,
    )


def _monthly_revenue(snapshot: Snapshot, given: Arguments) -> _Found:
    money = ("subtotal_usd", "credits_usd", "taxes_usd", "total_cost_usd")
    where = _conditions(given, "month")
    return _Found(
        columns=(
            *_columns(org_id="text", month="date"),
            *(Column(name, "decimal") for name in money),
        ),
        rows=snapshot.scan(REVENUE, ["org_id", "month", *money], where),
        sort=(0, 1),
    )


def _genai_usage(snapshot: Snapshot, given: Arguments) -> _Found:
    """Growth is against the period before, whether --from shows that one or not."""
    by_month = given.by == "month"
    sums: defaultdict[tuple[str, date], list[Decimal]] = defaultdict(lambda: [Decimal(), Decimal()])
    where = _conditions(Arguments(org=given.org), "usage_date")
    columns = ["org_id", "usage_date", "total_tokens", "genai_cost_usd"]
    for org, day, tokens, cost in snapshot.scan(GENAI, columns, where):
        cell = sums[org, _month(day) if by_month else day]
        cell[0] = _EXACT.add(cell[0], tokens)
        cell[1] = _EXACT.add(cell[1], cost)
    rows = []
    for (org, period), (tokens, cost) in sums.items():
        if _shown(period, given):
            previous = _before(period, by_month)
            before = sums.get((org, previous)) if previous else None
            rows.append((org, period, tokens, cost, _growth(tokens, before)))
    return _Found(
        columns=(
            Column("org_id", "text"),
            Column("month" if by_month else "usage_date", "date"),
            *_columns(total_tokens="decimal", genai_cost_usd="decimal", growth="decimal"),
        ),
        rows=rows,
        sort=(0, 1),
        coverage=(_genai_coverage(snapshot, given, by_month),),
    )


def _genai_coverage(snapshot: Snapshot, given: Arguments, by_month: bool) -> Coverage:
    """Tokens are reported by events of one service: how many of its events did."""
    reported = events = 0
    where = _conditions(Arguments(org=given.org, service="genai"), "usage_date")
    columns = ["usage_date", "genai_reported_count", "event_count"]
    for day, of_row, all_of_row in snapshot.scan(USAGE, columns, where):
        if _shown(_month(day) if by_month else day, given):
            reported += of_row
            events += all_of_row
    return Coverage("total_tokens", reported, events, "events of service genai")


def _month(day: date) -> date:
    return day.replace(day=1)


def _before(period: date, by_month: bool) -> date | None:
    """Return the period before, None where the calendar begins."""
    if period == date.min:
        return None
    return _month(period - _ONE_DAY) if by_month else period - _ONE_DAY


def _shown(period: date, given: Arguments) -> bool:
    """A month is in the range when its first day is."""
    return not (
        (given.day_from and period < given.day_from) or (given.day_to and period > given.day_to)
    )


def _growth(tokens: Decimal, before: list[Decimal] | None) -> Decimal | None:
    return None if before is None else _ratio(_EXACT.subtract(tokens, before[0]), before[0])


def _anomalies(snapshot: Snapshot, given: Arguments) -> _Found:
    columns = snapshot.tables()[ANOMALIES]
    names = [column.name for column in columns]
    return _Found(
        columns=columns,
        rows=snapshot.scan(ANOMALIES, names, _conditions(given, "usage_date")),
        sort=tuple(names.index(name) for name in ("org_id", "usage_date", "service")),
    )


_ALL: Final = (
    Question(
        "daily-cost",
        "Cost and requests per day, organisation and service.",
        ("org", "service", "from", "to"),
        (USAGE,),
        _daily_cost,
    ),
    Question(
        "top-services",
        "Services by cost over the last 14 days, per organisation.",
        ("org", "days", "as_of", "limit"),
        (USAGE,),
        _top_services,
    ),
    Question(
        "ticket-sla",
        "Critical tickets and their SLA breach rate per day, over 30 days.",
        ("org", "severity", "days", "as_of"),
        (TICKETS,),
        _ticket_sla,
    ),
    Question(
        "monthly-revenue",
        "Invoiced revenue per organisation and month, in USD, with credits and taxes.",
        ("org", "from", "to"),
        (REVENUE,),
        _monthly_revenue,
    ),
    Question(
        "genai-usage",
        "GenAI tokens and cost by day or month, with growth against the one before.",
        ("org", "by", "from", "to"),
        (GENAI, USAGE),
        _genai_usage,
    ),
    Question(
        "anomalies",
        "Days on which a service cost an organisation unusually much.",
        ("org", "service", "from", "to"),
        (ANOMALIES,),
        _anomalies,
    ),
)

QUESTIONS: Final[Mapping[str, Question]] = {item.name: item for item in _ALL}
"""By name, in the order of the documentation."""
