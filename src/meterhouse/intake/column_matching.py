"""Which field of a delivery is meant by which column of a shipped contract."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meterhouse.intake.contract import Column, Contract
from meterhouse.intake.sampling import Field, unique

__all__ = ["Matches", "match_columns", "words"]

NEAR: Final = 0.6
"""Names less alike than this are left to the author."""
KNOWN_VALUES: Final = 0.88
"""Of a field that holds the values a column is known to hold: more than most names say."""
MOSTLY: Final = 95
"""Per cent of a field's values that must be known ones."""

SYNONYMS: Final[Mapping[str, str]] = {
    "account": "org",
    "company": "org",
    "customer": "org",
    "organisation": "org",
    "organization": "org",
    "tenant": "org",
    "guid": "id",
    "identifier": "id",
    "uuid": "id",
    "datetime": "timestamp",
    "time": "timestamp",
    "ts": "timestamp",
    "quantity": "value",
    "qty": "value",
}
"""Word to the word that the shipped columns use for it."""

OTHER_NAMES: Final[Mapping[str, str]] = {
    "event_id": "id usage_id record_id",
    "timestamp": "event_timestamp occurred_at created_at usage_timestamp happened_at date",
    "org_id": "org",
    "org_name": "name",
    "resource_id": "resource instance_id",
    "service": "product service_name product_name",
    "region": "zone location",
    "metric": "meter metric_name meter_name sku dimension",
    "value": "usage usage_value amount reading",
    "unit": "uom unit_of_measure units",
    "cost_usd_increment": "cost cost_usd charge charge_usd price price_usd amount_usd usd amount",
    "schema_version": "version event_version schema ver",
    "carbon_kg": "co2_kg kg_co2e co2e_kg carbon co2",
    "genai_tokens": "tokens token_count total_tokens",
    "invoice_id": "invoice invoice_number id",
    "month": "billing_month invoice_month period",
    "subtotal": "net net_amount",
    "credits": "credit discount",
    "taxes": "tax vat",
    "currency": "currency_code ccy",
    "exchange_rate_to_usd": "fx_rate fx rate usd_rate exchange_rate",
    "ticket_id": "ticket ticket_number id",
    "created_at": "opened_at opened created created_date",
    "resolved_at": "closed_at closed resolved resolved_date",
    "severity": "priority",
    "csat": "satisfaction rating csat_score",
    "sla_breached": "breached sla_breach",
    "user_id": "user id",
    "last_login": "last_seen last_login_at",
    "email": "mail email_address",
    "touch_id": "touch id",
    "survey_date": "date answered_at",
    "nps_score": "nps score",
    "comment": "feedback text",
    "tags_json": "tags labels",
    "state": "status",
    "plan_tier": "plan tier",
    "signup_date": "signed_up_at signup",
}
"""Delivered name of a shipped column to others that people use for it."""


def words(name: str) -> list[str]:
    """Return the words of a name, lower case: ``usageStart-Time`` is usage, start, time."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", parts.lower()) if word]


@dataclass(frozen=True, slots=True)
class Matches:
    """Which field each shipped column is read from."""

    fields: dict[str, str]
    """Delivered name in the shipped contract to the file's field; each used once."""
    by_values: frozenset[str]
    """Delivered names found by the field's values alone: the author should look at them."""


def match_columns(fields: Sequence[Field], contract: Contract) -> Matches:
    """Return which field each column is read from.

    The most alike names are taken first; a field that mostly holds another type than the
    column needs is not taken for it, unless the names are equal. What is left on both sides
    is matched where the values leave one choice.
    """
    scores = [
        (
            max(likeness(field, source, columns), by_known_values(field, columns, contract)),
            -place,
            -order,
            source,
            field.name,
        )
        for place, (source, columns) in enumerate(contract.by_source.items())
        for order, field in enumerate(fields)
    ]
    found: dict[str, str] = {}
    for score, _, _, source, name in sorted(scores, reverse=True):
        if score >= NEAR and source not in found and name not in found.values():
            found[source] = name
    left = [field for field in fields if field.name not in found.values()]
    guessed: dict[str, str] = {}
    for source, name in only_choices(left, contract, found):
        if source not in guessed and name not in guessed.values():
            guessed[source] = name
    return Matches({**found, **guessed}, frozenset(guessed))


def by_known_values(field: Field, columns: Sequence[Column], contract: Contract) -> float:
    """Return ``KNOWN_VALUES`` where the field holds what one of the columns is known to hold."""
    texts = [cell.text.strip().lower() for cell in field.filled]
    for column in columns:
        known = {value.lower() for value in contract.known_values.get(column.name, ())}
        if known and texts and 100 * sum(text in known for text in texts) >= MOSTLY * len(texts):
            return KNOWN_VALUES
    return 0.0


def only_choices(
    left: Sequence[Field], contract: Contract, found: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield (delivered name, field) where one column and one field of a kind are left.

    The key by being always there and never twice; days, times and truth values by their type.
    """
    open_sources = {
        source: columns for source, columns in contract.by_source.items() if source not in found
    }
    keys = [contract.by_name[name].source for name in contract.key]
    if len(keys) == 1 and keys[0] in open_sources:
        able = [field for field in left if field.guess in ("text", "integer") and unique([field])]
        if len(able) == 1:
            yield keys[0], able[0].name
    for kind in ("date", "timestamp", "boolean"):
        sources = [
            source
            for source, columns in open_sources.items()
            if any(column.type == kind for column in columns)
        ]
        able = [field for field in left if field.filled and field.guess == kind]
        if len(sources) == len(able) == 1:
            yield sources[0], able[0].name


def likeness(field: Field, source: str, columns: Sequence[Column]) -> float:
    """Return from 0 to 1 how much a field looks like what ``columns`` are read from."""
    if field.name == source:
        return 1.0
    filled = len(field.filled)
    if any(2 * field.misfits(column.type) > filled for column in columns):
        return 0.0
    theirs, ours = plain(field.name), plain(source)
    if theirs == ours:
        return 0.95
    others = [plain(name) for name in OTHER_NAMES.get(source, "").split()]
    if theirs in others:
        # The usual names come first, so that "cost" beats "usd" where a file has both.
        return 0.9 - 0.01 * others.index(theirs)
    shared = len(set(theirs) & set(ours))
    by_words = 2 * shared / (len(set(theirs)) + len(set(ours))) if theirs else 0.0
    by_letters = difflib.SequenceMatcher(None, "".join(theirs), "".join(ours)).ratio()
    return max(0.85 * by_words, 0.8 * by_letters)


def plain(name: str) -> list[str]:
    """Return the words of a name, each as the shipped columns would say it."""
    return [SYNONYMS.get(word, word) for word in words(name)]
