"""Silver and gold from accepted records and current versions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from oracle.anomaly import cost_anomalies
from oracle.windows import windows

Row = dict[str, Any]
Rows = list[Row]

EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
ZERO = Decimal(0)
METRICS = ("requests", "cpu_hours", "storage_gb_hours")
ORG = {
    "org_name": "org_name",
    "industry": "industry",
    "org_region": "hq_region",
    "plan_tier": "plan_tier",
    "lifecycle_stage": "lifecycle_stage",
    "is_enterprise": "is_enterprise",
}


def rounded(value: Decimal, places: int) -> Decimal:
    """Return ``value`` rounded half-even."""
    return value.quantize(Decimal(1).scaleb(-places), context=EXACT)


def ratio(numerator: Decimal | int, denominator: Decimal | int) -> Decimal | None:
    """Return the quotient with 6 places, half-even; None over 0."""
    if not denominator:
        return None
    # Integers decide the rounding: a quotient cut at any precision could fall on a tie.
    scale = 10**9
    above, below = int(EXACT.multiply(numerator, scale)), int(EXACT.multiply(denominator, scale))
    if below < 0:
        above, below = -above, -below
    whole, rest = divmod(above * 10**6, below)
    if rest * 2 > below or (rest * 2 == below and whole % 2):
        whole += 1
    return EXACT.divide(Decimal(whole), Decimal(10**6))


def total(values: Iterable[Decimal | None]) -> Decimal:
    """Return the exact sum of what was reported; 0 when nothing was."""
    result = ZERO
    for value in values:
        if value is not None:
            result = EXACT.add(result, value)
    return result


def build(
    accepted: Mapping[str, Rows],
    current: Mapping[str, Rows],
    versions: Mapping[str, Sequence[tuple[Any, Row | None]]],
) -> dict[str, Rows]:
    """Return every silver and gold table by name."""
    tables: dict[str, Rows] = {}
    for name, source in (
        ("orgs", "customers_orgs"),
        ("users", "users"),
        ("resources", "resources"),
    ):
        tables[f"silver.{name}"] = _history(versions[source])
    orgs = {row["org_id"]: row for row in current["customers_orgs"]}
    resources = {row["resource_id"]: row for row in current["resources"]}
    usage = [_usage(row, orgs, resources) for row in accepted["usage_events"]]
    tables["silver.usage_enriched"] = usage
    tables["silver.org_users"] = _org_users(current["users"])
    tables["silver.billing_enriched"] = [_invoice(row, orgs) for row in current["billing_monthly"]]
    tables["silver.support_tickets_enriched"] = [
        _ticket(row, orgs) for row in current["support_tickets"]
    ]
    tables["silver.marketing_enriched"] = [
        {
            "touch_id": row["touch_id"],
            "org_id": row["org_id"],
            "campaign": row["campaign"],
            "channel": row["channel"],
            "touch_date": row["timestamp"],
            "clicked": row["clicked"],
            "converted": row["converted"],
            **_org(row, orgs),
        }
        for row in accepted["marketing_touches"]
    ]
    tables["silver.nps_enriched"] = [
        {**row, "nps_class": nps_class(row["nps_score"])} for row in accepted["nps_surveys"]
    ]
    _gold(tables)
    return tables


def _history(arrivals: Sequence[tuple[Any, Row | None]]) -> Rows:
    """Return a version for each change of an attribute; None says that the key is gone."""
    found: Rows = []
    latest: dict[Any, Row | None] = {}
    for key, row in arrivals:
        before = latest.get(key)
        if before is not None:
            if row == {name: before[name] for name in before if name != "is_current"}:
                continue
            before["is_current"] = False
        latest[key] = None if row is None else {**row, "is_current": True}
        found += [version for version in (latest[key],) if version is not None]
    return found


def _gold(tables: dict[str, Rows]) -> None:
    usage = tables["silver.usage_enriched"]
    daily = _daily(usage, ("org_id", "usage_date", "service"))
    tables["gold.org_daily_usage_by_service"] = daily
    tables["gold.finops_by_org_day"] = _daily(usage, ("org_id", "usage_date"))
    tables |= windows(usage)
    tables["gold.genai_tokens_by_org_date"] = _genai(usage)
    tables["gold.revenue_by_org_month"] = _revenue(tables["silver.billing_enriched"])
    tables["gold.tickets_by_org_date"] = _tickets(tables["silver.support_tickets_enriched"])
    tables["gold.nps_by_org"] = _nps(tables["silver.nps_enriched"])
    tables["gold.marketing_by_channel_month"] = _marketing(tables["silver.marketing_enriched"])
    tables["gold.cost_anomaly_mart"] = cost_anomalies(daily)


def normal(text: str | None) -> str | None:
    """Return ``text`` trimmed, ASCII letters in lower case."""
    if text is None:
        return None
    return "".join(
        chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in text.strip(" ")
    )


def _usage(row: Row, orgs: Mapping[str, Row], resources: Mapping[str, Row]) -> Row:
    moment: datetime = row["event_ts"]
    resource = resources.get(row["resource_id"])
    found = resource or {}
    return {
        "event_id": row["event_id"],
        "event_ts": moment,
        "event_date": moment.astimezone(UTC).date(),
        "org_id": row["org_id"],
        "resource_id": row["resource_id"],
        "service": normal(row["service"]),
        "region": normal(row["region"]) or "unknown",
        "metric": normal(row["metric"]),
        "unit": normal(row["unit"]),
        "value_num": row["value_num"],
        "cost_usd_increment": row["cost_usd_increment"] or ZERO,
        "schema_version": 1 if row["schema_version"] is None else row["schema_version"],
        "carbon_kg": row["carbon_kg"],
        "genai_tokens": row["genai_tokens"],
        **_org(row, orgs),
        "resource_state": found.get("state"),
        "resource_service": found.get("service"),
        "resource_region": found.get("region"),
        "resource_tags": tags(found.get("tags_json")),
        "org_known": row["org_id"] in orgs,
        "resource_known": resource is not None,
    }


def tags(text: str | None) -> dict[str, list[str]] | None:
    """Return tags by key; a key can repeat, so its values are a list."""
    if text is None:
        return None
    try:
        items = json.loads(text)
    except ValueError:
        items = []
    found: dict[str, list[str]] = {}
    for item in items if isinstance(items, list) else []:
        key, _, value = str(item).partition(":")
        found.setdefault(key, []).append(value)
    return found


def _org(row: Row, orgs: Mapping[str, Row]) -> Row:
    org = orgs.get(row["org_id"], {})
    return {name: org.get(column) for name, column in ORG.items()}


def _org_users(users: Rows) -> Rows:
    return [
        {
            "org_id": org,
            "user_count": len(rows),
            "active_user_count": sum(row["active"] is True for row in rows),
            "last_login_date": max(
                (row["last_login"] for row in rows if row["last_login"]), default=None
            ),
        }
        for (org,), rows in grouped(users, "org_id")
    ]


def _invoice(row: Row, orgs: Mapping[str, Row]) -> Row:
    rate = row["exchange_rate_to_usd"]
    subtotal, credits, taxes = (
        rounded(EXACT.multiply(row[part] or ZERO, rate), 9)
        for part in ("subtotal", "credits", "taxes")
    )
    month: date | None = row["month"]
    return {
        "invoice_id": row["invoice_id"],
        "org_id": row["org_id"],
        "month": month and month.replace(day=1),
        "currency": row["currency"],
        "exchange_rate_to_usd": rate,
        "subtotal_usd": subtotal,
        "credits_usd": credits,
        "taxes_usd": taxes,
        "total_cost_usd": EXACT.add(EXACT.subtract(subtotal, credits), taxes),
        **{name: _org(row, orgs)[name] for name in ("org_name", "industry", "plan_tier")},
    }


def _ticket(row: Row, orgs: Mapping[str, Row]) -> Row:
    opened, resolved, csat = row["created_at"], row["resolved_at"], row["csat"]
    return {
        "ticket_id": row["ticket_id"],
        "org_id": row["org_id"],
        "category": row["category"],
        "severity": row["severity"],
        "ticket_date": opened,
        "resolution_hours": (resolved - opened).days * 24 if resolved and opened else None,
        "sla_breached_bool": row["sla_breached"],
        "csat": csat,
        "csat_valid": None if csat is None else 1 <= csat <= 5,
        **_org(row, orgs),
    }


def nps_class(score: Decimal | None) -> str | None:
    """Return the class of an index from -100 to 100."""
    if score is None:
        return None
    if not -100 <= score <= 100:
        return "out_of_range"
    return "promoter" if score >= 50 else "neutral" if score >= 0 else "detractor"


def grouped(rows: Rows, *columns: str) -> Iterable[tuple[tuple[Any, ...], Rows]]:
    """Return (values of ``columns``, their rows)."""
    groups: defaultdict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns)].append(row)
    return groups.items()


def _daily(usage: Rows, grain: tuple[str, ...]) -> Rows:
    columns = tuple("event_date" if column == "usage_date" else column for column in grain)
    result = []
    for key, rows in grouped(usage, *columns):
        readings = {
            metric: [row["value_num"] for row in rows if row["metric"] == metric]
            for metric in METRICS
        }
        tokens = [row["genai_tokens"] for row in rows]
        carbon = [row["carbon_kg"] for row in rows]
        result.append(
            {
                **dict(zip(grain, key, strict=True)),
                "daily_cost_usd": total(row["cost_usd_increment"] for row in rows),
                **{metric: total(values) for metric, values in readings.items()},
                "genai_tokens": total(tokens),
                "carbon_kg": total(carbon),
                "event_count": len(rows),
                **{f"{metric}_reported_count": reported(readings[metric]) for metric in METRICS},
                "genai_reported_count": reported(tokens),
                "carbon_reported_count": reported(carbon),
            }
        )
    return result


def reported(values: Iterable[Any]) -> int:
    """Return how many are not None."""
    return sum(value is not None for value in values)


def _genai(usage: Rows) -> Rows:
    using = [row for row in usage if (row["genai_tokens"] or ZERO) > 0]
    result = []
    for (org, day), rows in grouped(using, "org_id", "event_date"):
        tokens = total(row["genai_tokens"] for row in rows)
        cost = total(row["cost_usd_increment"] for row in rows)
        result.append(
            {
                "org_id": org,
                "usage_date": day,
                "total_tokens": tokens,
                "genai_cost_usd": cost,
                "event_count": len(rows),
                "cost_per_1k_tokens_usd": ratio(EXACT.multiply(cost, 1000), tokens),
            }
        )
    return result


def _revenue(invoices: Rows) -> Rows:
    money = ("subtotal_usd", "credits_usd", "taxes_usd", "total_cost_usd")
    return [
        {
            "org_id": org,
            "month": month,
            **{column: total(row[column] for row in rows) for column in money},
            "invoice_count": len(rows),
            "currencies": sorted({row["currency"] for row in rows if row["currency"] is not None}),
        }
        for (org, month), rows in grouped(invoices, "org_id", "month")
    ]


def _tickets(tickets: Rows) -> Rows:
    result = []
    for (org, day, severity), rows in grouped(tickets, "org_id", "ticket_date", "severity"):
        breached = sum(row["sla_breached_bool"] is True for row in rows)
        hours = [row["resolution_hours"] for row in rows if row["resolution_hours"] is not None]
        scores = [row["csat"] for row in rows if row["csat"] is not None]
        result.append(
            {
                "org_id": org,
                "ticket_date": day,
                "severity": severity,
                "ticket_count": len(rows),
                "sla_breached_count": breached,
                "resolved_count": len(hours),
                "open_count": len(rows) - len(hours),
                "csat_sum": total(scores),
                "csat_count": len(scores),
                "resolution_hours_sum": sum(hours),
                "sla_breach_rate": ratio(breached, len(rows)),
                "csat_avg": ratio(total(scores), len(scores)),
                "avg_resolution_hours": ratio(sum(hours), len(hours)),
            }
        )
    return result


def _nps(surveys: Rows) -> Rows:
    result = []
    for (org,), rows in grouped(surveys, "org_id"):
        scored = [row for row in rows if row["nps_score"] is not None]
        last: Row = max(scored, key=_survey_date, default={})
        result.append(
            {
                "org_id": org,
                "survey_count": len(rows),
                "scored_count": len(scored),
                "last_survey_date": last.get("survey_date"),
                "last_nps_score": last.get("nps_score"),
                "avg_nps_score": ratio(total(row["nps_score"] for row in scored), len(scored)),
                "nps_class": last.get("nps_class"),
            }
        )
    return result


_survey_date: Callable[[Row], date] = lambda row: row["survey_date"]  # noqa: E731


def _marketing(touches: Rows) -> Rows:
    dated = [
        {**row, "month": row["touch_date"] and row["touch_date"].replace(day=1)} for row in touches
    ]
    result = []
    for (channel, campaign, month), rows in grouped(dated, "channel", "campaign", "month"):
        clicked = sum(row["clicked"] is True for row in rows)
        converted = sum(row["converted"] is True for row in rows)
        result.append(
            {
                "channel": channel,
                "campaign": campaign,
                "month": month,
                "touch_count": len(rows),
                "clicked_count": clicked,
                "converted_count": converted,
                "click_rate": ratio(clicked, len(rows)),
                "conversion_rate": ratio(converted, len(rows)),
            }
        )
    return result
