"""The rules of a contract: read, and checked to leave no record without a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast, get_args

from meterhouse.errors import ContractError, nearest
from meterhouse.intake.contract import Column, Contract, Rule, Severity
from meterhouse.intake.document import Value
from meterhouse.intake.expression import expression_columns
from meterhouse.names import CHECKS

__all__ = ["CHECK_SEVERITIES", "LOOKED_AT", "check_rules", "read_rules"]

KEYS: Final = ("name", "holds", "check", "columns", "severity", "because", "repair")
CHECK_SEVERITIES: Final = ("quarantine", "stop")
"""What a check decides can't be mended by SQL, nor let through."""

LOOKED_AT: Final[Mapping[str, tuple[str, ...]]] = {
    "unreadable": ("date", "timestamp"),
    "number_out_of_range": ("decimal", "integer"),
}
"""Check to the column types it looks at when it names no columns."""


def read_rules(
    value: Value,
    columns: Sequence[Column],
    key: Sequence[str],
    places: dict[tuple[str, ...], Value],
) -> tuple[Rule, ...]:
    """Return the rules in their order; add to ``places`` where their SQL stands."""
    rules: list[Rule] = []
    for item in value.items():
        fields = item.fields(KEYS, ("name", "severity", "because"))
        name = fields["name"].text()
        if any(rule.name == name for rule in rules):
            raise fields["name"].error(f'two rules have the name "{name}"', "rename one")
        if not name.isidentifier() or not name.isascii() or name != name.lower():
            raise fields["name"].error(
                f'"{name}" is not a rule name', "use lower case, digits and underscores"
            )
        if ("holds" in fields) == ("check" in fields):
            raise item.error(
                f'rule "{name}" needs either holds or check',
                f"give holds: a SQL condition, or check: one of {', '.join(CHECKS)}",
            )
        rule = (
            read_check(name, fields, columns, key)
            if "check" in fields
            else read_holds(name, fields, columns, places)
        )
        rules.append(rule)
    return tuple(rules)


def read_check(
    name: str, fields: Mapping[str, Value], columns: Sequence[Column], key: Sequence[str]
) -> Rule:
    """Return a rule that the parser or the deduplication decides."""
    check = fields["check"].choice(CHECKS)
    severity = fields["severity"].choice(get_args(Severity))
    if severity not in CHECK_SEVERITIES:
        raise fields["severity"].error(
            f'check "{check}" can\'t be of severity {severity}',
            f"use one of {', '.join(CHECK_SEVERITIES)}",
        )
    if "repair" in fields:
        raise fields["repair"].error("only a rule with holds can repair", "remove repair")
    return Rule(
        name=name,
        severity=cast(Severity, severity),
        because=fields["because"].text(),
        check=check,
        columns=check_columns(check, fields, columns, key),
    )


def check_columns(
    check: str, fields: Mapping[str, Value], columns: Sequence[Column], key: Sequence[str]
) -> tuple[str, ...]:
    """Return the columns a check looks at: those it names, else all that it can be about."""
    kinds = {column.name: column.type for column in columns}
    allowed = LOOKED_AT.get(check)
    if "columns" not in fields:
        if check == "malformed":
            return ()
        if check in ("key_unusable", "conflicting_duplicate"):
            return tuple(key)
        return tuple(name for name, kind in kinds.items() if not allowed or kind in allowed)
    if check in ("malformed", "conflicting_duplicate", "wrong_type"):
        raise fields["columns"].error(
            f'check "{check}" is about the whole record', "remove columns from this rule"
        )
    found: list[str] = []
    for item in fields["columns"].items():
        name = item.text()
        if name not in kinds:
            hint = nearest(name, kinds)
            raise item.error(
                f'rule names column "{name}", which the contract does not declare',
                f'did you mean "{hint}"?' if hint else f"use one of {', '.join(sorted(kinds))}",
            )
        if allowed and kinds[name] not in allowed:
            raise item.error(
                f'check "{check}" is not about column "{name}" of type {kinds[name]}',
                f"name columns of type {' or '.join(allowed)}",
            )
        found.append(name)
    return tuple(found)


def read_holds(
    name: str,
    fields: Mapping[str, Value],
    columns: Sequence[Column],
    places: dict[tuple[str, ...], Value],
) -> Rule:
    """Return a rule that SQL decides."""
    names = {column.name: column.type for column in columns}
    severity = fields["severity"].choice(get_args(Severity))
    if "columns" in fields:
        raise fields["columns"].error(
            "columns belongs to rules with check", "remove it: the SQL says which columns it names"
        )
    if ("repair" in fields) != (severity == "repair"):
        raise fields["severity"].error(
            f'rule "{name}" has severity {severity}, and repair is '
            + ("given" if "repair" in fields else "missing"),
            "give severity: repair together with repair: {column: SQL that mends it}",
        )
    named = expression_columns(fields["holds"], names)
    places["rules", name, "holds"] = fields["holds"]
    repair: dict[str, str] = {}
    for key, expression in fields["repair"].pairs() if "repair" in fields else ():
        if key.text() not in names:
            hint = nearest(key.text(), names)
            raise key.error(
                f'rule repairs column "{key.text()}", which the contract does not declare',
                f'did you mean "{hint}"?' if hint else f"use one of {', '.join(sorted(names))}",
            )
        expression_columns(expression, names)
        places["rules", name, "repair", key.text()] = expression
        repair[key.text()] = expression.text()
    return Rule(
        name=name,
        severity=cast(Severity, severity),
        because=fields["because"].text(),
        holds=fields["holds"].text(),
        columns=named,
        repair=repair or None,
    )


def check_rules(contract: Contract, value: Value, places: Mapping[tuple[str, ...], Value]) -> None:
    """Raise unless every record gets a verdict that can be published.

    Whatever the parser can find wrong needs a rule that says what follows; and a key or
    partition value must be ruled to be usable, because no value may decide whether its
    row can be written.
    """
    needed = ["malformed", "wrong_type"]
    kinds = {column.type for column in contract.columns}
    needed += [check for check, types in LOOKED_AT.items() if kinds & set(types)]
    if contract.mode == "append":
        needed.append("conflicting_duplicate")
    for check in needed:
        if not any(rule.check == check for rule in contract.rules):
            raise value.error(
                f'no rule has check "{check}", so nothing says what becomes of such a record',
                f"add - {{name: {check}, check: {check}, severity: quarantine, because: …}}",
            )
    for check in LOOKED_AT:
        check_covered(contract, check, value)
    strict = [rule for rule in contract.rules if rule.severity in ("quarantine", "stop")]
    ruled = {name for rule in strict if rule.holds or is_key(rule) for name in rule.columns}
    usable = {name for rule in strict if is_key(rule) for name in rule.columns}
    stored = {column.name for column in contract.columns}
    for name in contract.key:
        if name not in ruled:
            raise unruled("key", name, value)
    for name in contract.partition_by:
        if name in stored and name not in usable:
            raise unruled("partition", name, value)
    check_repairs(contract, places)


def check_covered(contract: Contract, check: str, value: Value) -> None:
    """Raise when a column that ``check`` can be about is in no rule of that check."""
    covered = {name for rule in contract.rules if rule.check == check for name in rule.columns}
    for column in contract.columns:
        if column.type in LOOKED_AT[check] and column.name not in covered:
            raise value.error(
                f'no rule with check "{check}" looks at column "{column.name}"',
                f"add {column.name} to the columns of such a rule",
            )


def check_repairs(contract: Contract, places: Mapping[tuple[str, ...], Value]) -> None:
    """Raise when a rule mends a key: a record would change which record it is."""
    for place, value in places.items():
        if place[0] == "rules" and place[2] == "repair" and place[3] in contract.key:
            raise value.error(
                f'rule "{place[1]}" repairs key column "{place[3]}"',
                "a key can't be mended; hold the record instead",
            )


def is_key(rule: Rule) -> bool:
    """Return whether the rule checks that columns can be keys."""
    return rule.check == "key_unusable"


def unruled(kind: str, name: str, value: Value) -> ContractError:
    """Return the error for a key or partition column that no rule looks at."""
    return value.error(
        f'no rule says that {kind} column "{name}" must be usable',
        f"add {name} to a rule with check: key_unusable; an empty value can't be written",
    )
