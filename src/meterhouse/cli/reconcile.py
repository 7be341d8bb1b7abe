"""``meterhouse reconcile``: metered against invoiced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterhouse.cli.columns import aligned
from meterhouse.cli.opening import opened
from meterhouse.cli.output import Destination, output_options, print_answer, table_file

if TYPE_CHECKING:
    from meterhouse.analysis.reconcile import Reconciliation

__all__ = ["reconcile"]

_STEPS = (
    ("  ", "metered_usd", "metered, accepted"),
    ("- ", "events_without_invoice_usd", "months with events and no invoice"),
    ("+ ", "invoices_without_events_usd", "months with an invoice and no events"),
    ("+ ", "rate_effect_usd", "rates other than 1 on invoices in USD"),
    ("- ", "credits_usd", "credits"),
    ("+ ", "taxes_usd", "taxes"),
    ("+ ", "unexplained_usd", "unexplained"),
    ("= ", "invoiced_usd", "invoiced"),
    ("  ", "quarantined_usd", "memo: held, in none of the above"),
)


@click.command()
@click.option("--org", metavar="ORG", help="Only this organisation.")
@output_options
@click.pass_obj
def reconcile(
    option: str | None, org: str | None, format_: str | None, output: Path | None
) -> None:
    """Lead from what was metered to what was invoiced, in USD, and name the rest.

    As a table it prints the identity over everything; the other formats give it by
    organisation and month.

    \b
    Example:
      meterhouse reconcile --format csv > reconciliation.csv
    """  # noqa: D301 - click wants the backspace itself
    from meterhouse.arrow_text import chunks_of, columns_of
    from meterhouse.formats import decimal_text

    to = Destination(format_, output)
    found = opened(option).reconcile(org)
    said = [_sentence(found)]
    if to.binary:
        table_file(to, found.rows.schema, found.rows.to_batches(), said)
    elif to.format == "table" and output is None:
        rows = [(sign + what, decimal_text(found.totals[name])) for sign, name, what in _STEPS]
        for line in aligned(rows, right=(1,)):
            click.echo(line)
        click.echo(f"\n{said[0]}")
    else:
        extras = {"totals": {name: decimal_text(total) for name, total in found.totals.items()}}
        batches = found.rows.to_batches()
        print_answer(to, columns_of(found.rows.schema), chunks_of(batches), extras, said)


def _sentence(found: Reconciliation) -> str:
    if found.agrees:
        return "metered and invoiced agree in every organisation and month"
    odd = sum(amount != 0 for amount in found.rows["unexplained_usd"].to_pylist())
    return (
        f"metered and invoiced do not agree: {odd:,} of {found.rows.num_rows:,} months "
        "of organisations have an unexplained rest"
    )
