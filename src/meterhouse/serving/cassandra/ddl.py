"""``cql/ddl_keyspace_tables.cql`` and ``cql/demo_queries.cql``: what the project ships as files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from meterhouse.errors import UsageError
from meterhouse.serving.cassandra.layout import CqlTable, quoted
from meterhouse.serving.cassandra.tables import (
    create_orgs,
    create_replica,
    create_table,
    create_writers,
)

__all__ = ["create_keyspace", "ddl", "demo_queries"]

_FACTOR: Final = re.compile(r"[A-Za-z0-9_.-]+=[1-9]")
_REPLICATION: Final = "write simple:1, network:dc1=3,dc2=3 or none (Astra makes its keyspaces)"


def create_keyspace(name: str, replication: str) -> str:
    """Return the CQL that makes keyspace ``name``; empty for ``none``.

    Args:
        name: Of the keyspace.
        replication: ``simple:1`` for one node, ``network:dc1=3,dc2=3`` for data centres,
            ``none`` where keyspaces are made elsewhere.

    Raises:
        UsageError: It is none of these.
    """
    if replication == "none":
        return ""
    strategy, _, factors = replication.partition(":")
    if strategy == "simple" and re.fullmatch("[1-9]", factors):
        options = f"'class': 'SimpleStrategy', 'replication_factor': {factors}"
    elif strategy == "network" and all(_FACTOR.fullmatch(one) for one in factors.split(",")):
        centres = (one.split("=") for one in factors.split(","))
        listed = ", ".join(f"'{centre}': {factor}" for centre, factor in centres)
        options = f"'class': 'NetworkTopologyStrategy', {listed}"
    else:
        raise UsageError(f'replication can\'t be "{replication}"', "--replication", _REPLICATION)
    return f"CREATE KEYSPACE IF NOT EXISTS {quoted(name)} WITH replication = {{{options}}}"


def ddl(tables: Mapping[str, Sequence[CqlTable]], keyspace: str, replication: str) -> str:
    """Return the whole schema as a file that cqlsh runs; safe to run again."""
    parts = [_HEAD]
    if made := create_keyspace(keyspace, replication):
        parts.append(f"{made};\n")
    parts.append(f"USE {quoted(keyspace)};\n")
    for model, found in sorted(tables.items()):
        for table in found:
            parts.append(f"-- {model}\n{create_table(table)};\n")
    parts.append(f"-- organisations, for questions over all of them\n{create_orgs()};\n")
    parts.append(f"-- up to where the log is in the tables\n{create_replica()};\n")
    parts.append(f"-- who is writing\n{create_writers()};\n")
    return "\n".join(parts)


def demo_queries(keyspace: str, org: str, first: date, last: date) -> str:
    """Return the six questions in CQL, with one organisation's keys, as a file for cqlsh.

    Args:
        keyspace: Of the tables.
        org: An organisation.
        first: First day of the month asked for.
        last: Its last day: "the last 14 days" end there.
    """
    values = {
        "org": org.replace("'", "''"),
        "first": first,
        "last": last,
        "fortnight": last - timedelta(days=13),
        "year": first.replace(month=1),
    }
    return _QUERIES.format(keyspace=quoted(keyspace), **values)


_QUERIES: Final = """\
-- The six questions from Cassandra, with keys of the data that `meterhouse demo` makes.
-- Generated; a test runs it and says when it is stale.
USE {keyspace};

-- Up to where the log is in the tables.
SELECT position, ingest_ts FROM replica WHERE name = 'serving';

-- 1. Cost and requests per day and service: one partition.
SELECT usage_date, service, daily_cost_usd, requests, as_of FROM finops_usage_by_org_day
WHERE org_id = '{org}' AND usage_date >= '{first}' AND usage_date <= '{last}';

-- 2. Top services of the last 14 days: these rows, added up by service by who asks.
SELECT service, usage_date, daily_cost_usd, as_of FROM finops_usage_by_org_day
WHERE org_id = '{org}' AND usage_date >= '{fortnight}' AND usage_date <= '{last}';

-- 3. Critical tickets and breaches per day, over all organisations: one partition a month.
SELECT ticket_date, org_id, ticket_count, sla_breached_count, as_of FROM tickets_by_day
WHERE severity = 'critical' AND month = '{first}';

-- 4. Monthly revenue with credits and taxes.
SELECT month, subtotal_usd, credits_usd, taxes_usd, total_cost_usd, as_of
FROM revenue_by_org_month WHERE org_id = '{org}' AND month >= '{year}';

-- 5. GenAI tokens and cost per day.
SELECT usage_date, total_tokens, genai_cost_usd, as_of FROM genai_tokens_by_org_day
WHERE org_id = '{org}' AND usage_date >= '{first}' AND usage_date <= '{last}';

-- 6. Days on which a service cost unusually much.
SELECT usage_date, service, daily_cost_usd, anomaly_score, as_of FROM cost_anomalies_by_org_day
WHERE org_id = '{org}' AND usage_date >= '{first}' AND usage_date <= '{last}';
"""

_HEAD: Final = """\
-- The tables that Meterhouse keeps in Apache Cassandra or Astra DB, one for each question.
-- Generated from the models' headers by `meterhouse serving ddl`; edit those, not this.
-- as_of: log position up to which a row was written; it has not changed since.
"""
