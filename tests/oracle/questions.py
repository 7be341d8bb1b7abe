"""The six questions, answered from the oracle's own gold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from oracle.tables import EXACT, grouped, ratio, total

Row = dict[str, Any]
Rows = list[Row]


class Questions:
    """Answers over gold tables; days after ``ingest_day`` anchor no default."""

    def __init__(self, tables: Mapping[str, Rows], ingest_day: date | None) -> None:
        self._tables = tables
        self._ingest_day = ingest_day

    def answer(self, name: str, **args: Any) -> Rows:
        """Return the rows of one answer in its own order."""
        answers: dict[str, Callable[..., Rows]] = {
            "daily-cost": self._daily_cost,
            "top-services": self._top_services,
            "ticket-sla": self._ticket_sla,
            "monthly-revenue": self._monthly_revenue,
            "genai-usage": self._genai_usage,
            "anomalies": self._anomalies,
        }
        return answers[name](**args)

    def _as_of(self, table: str, column: str) -> date:
        days = [row[column] for row in self._tables[table] if row[column] is not None]
        return max(
            (day for day in days if self._ingest_day is None or day <= self._ingest_day),
            default=date.min,
        )

    def _daily_cost(
        self,
        org: str | None = None,
        service: str | None = None,
        from_: date | None = None,
        to: date | None = None,
    ) -> Rows:
        rows = chosen(
            self._tables["gold.org_daily_usage_by_service"], "usage_date", from_, to,
            org_id=org, service=service,
        )  # fmt: skip
        return sorted(
            (
                {
                    "usage_date": row["usage_date"],
                    "org_id": row["org_id"],
                    "service": row["service"],
                    "cost_usd": row["daily_cost_usd"],
                    "requests": row["requests"],
                }
                for row in rows
            ),
            key=lambda row: (row["usage_date"], row["org_id"], row["service"]),
        )

    def _top_services(
        self,
        org: str | None = None,
        days: int = 14,
        as_of: date | None = None,
        limit: int | None = None,
    ) -> Rows:
        table = "gold.org_daily_usage_by_service"
        end = as_of or self._as_of(table, "usage_date")
        rows = chosen(self._tables[table], "usage_date", end - timedelta(days - 1), end, org_id=org)
        found = []
        for (name,), of_org in sorted(grouped(rows, "org_id")):
            costs = [
                (service, total(row["daily_cost_usd"] for row in of_service))
                for (service,), of_service in grouped(of_org, "service")
            ]
            costs.sort(key=lambda item: (-item[1], item[0]))
            found += [
                {"org_id": name, "rank": rank, "service": service, "cost_usd": cost}
                for rank, (service, cost) in enumerate(costs[:limit], 1)
            ]
        return found

    def _ticket_sla(
        self,
        org: str | None = None,
        severity: str = "critical",
        days: int = 30,
        as_of: date | None = None,
    ) -> Rows:
        table = "gold.tickets_by_org_date"
        end = as_of or self._as_of(table, "ticket_date")
        rows = chosen(
            self._tables[table], "ticket_date", end - timedelta(days - 1), end,
            org_id=org, severity=severity,
        )  # fmt: skip
        found = []
        for (day,), of_day in sorted(grouped(rows, "ticket_date")):
            tickets = sum(row["ticket_count"] for row in of_day)
            breached = sum(row["sla_breached_count"] for row in of_day)
            found.append(
                {
                    "ticket_date": day,
                    "ticket_count": tickets,
                    "sla_breached_count": breached,
                    "sla_breach_rate": ratio(breached, tickets),
                }
            )
        return found

    def _monthly_revenue(
        self, org: str | None = None, from_: date | None = None, to: date | None = None
    ) -> Rows:
        columns = ("org_id", "month", "subtotal_usd", "credits_usd", "taxes_usd", "total_cost_usd")
        rows = chosen(self._tables["gold.revenue_by_org_month"], "month", from_, to, org_id=org)
        return sorted(
            ({column: row[column] for column in columns} for row in rows),
            key=lambda row: (row["org_id"], row["month"]),
        )

    def _genai_usage(
        self,
        org: str | None = None,
        by: str = "day",
        from_: date | None = None,
        to: date | None = None,
    ) -> Rows:
        column = "usage_date" if by == "day" else "month"
        sums: defaultdict[tuple[str, date], list[Decimal]] = defaultdict(
            lambda: [Decimal(0), Decimal(0)]
        )
        for row in self._tables["gold.genai_tokens_by_org_date"]:
            day = row["usage_date"] if by == "day" else row["usage_date"].replace(day=1)
            cell = sums[row["org_id"], day]
            cell[0] = EXACT.add(cell[0], row["total_tokens"])
            cell[1] = EXACT.add(cell[1], row["genai_cost_usd"])
        rows = []
        for (name, day), (tokens, cost) in sorted(sums.items()):
            before = day - timedelta(1)
            previous = sums.get((name, before if by == "day" else before.replace(day=1)))
            rows.append(
                {
                    "org_id": name,
                    column: day,
                    "total_tokens": tokens,
                    "genai_cost_usd": cost,
                    "growth": previous and ratio(EXACT.subtract(tokens, previous[0]), previous[0]),
                }
            )
        return chosen(rows, column, from_, to, org_id=org)

    def _anomalies(
        self,
        org: str | None = None,
        service: str | None = None,
        from_: date | None = None,
        to: date | None = None,
    ) -> Rows:
        rows = chosen(
            self._tables["gold.cost_anomaly_mart"], "usage_date", from_, to,
            org_id=org, service=service,
        )  # fmt: skip
        return sorted(rows, key=lambda row: (row["org_id"], row["usage_date"], row["service"]))


def chosen(rows: Rows, day: str, from_: date | None, to: date | None, **equal: str | None) -> Rows:
    """Return rows within [from_, to] that equal every filter given."""
    return [
        row
        for row in rows
        if (from_ is None or row[day] >= from_)
        and (to is None or row[day] <= to)
        and all(value is None or row[column] == value for column, value in equal.items())
    ]
