"""The program: one file per command, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Final

import click

from meterhouse.errors import EnvironmentFailureError, MeterhouseError

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS: Final = {
    "init": ("meterhouse.cli.init:init", "Make a project folder."),
    "ingest": ("meterhouse.cli.ingest:ingest", "Take files into the log, each record judged."),
    "batch": ("meterhouse.cli.batch:batch", "Publish lake, gold and serving up to the log's head."),
    "query": ("meterhouse.cli.query:query", "Answer one of the six questions."),
    "read": ("meterhouse.cli.read:read", "Print a table."),
    "sql": ("meterhouse.cli.sql:sql", "Run one read-only SELECT over all tables."),
    "verify": ("meterhouse.cli.verify:verify", "Re-derive the ledger and check every byte."),
    "rebuild": ("meterhouse.cli.rebuild:rebuild", "Make the views anew from log and landing."),
    "quarantine": ("meterhouse.cli.quarantine:quarantine", "Show what is held, and why."),
    "explain": ("meterhouse.cli.explain:explain", "Show the records behind one row."),
    "reconcile": ("meterhouse.cli.reconcile:reconcile", "Metered against invoiced, by month."),
    "status": ("meterhouse.cli.status:status", "Sources, positions, sizes, drift on one screen."),
    "models": ("meterhouse.cli.models:models", "List, explain, lint and draw the models."),
    "test": ("meterhouse.cli.test:test", "Run the given/expect tests of the models."),
    "contract": ("meterhouse.cli.contract:contract", "Check contracts; draft one from a file."),
    "catalog": ("meterhouse.cli.catalog:catalog", "Bring shipped contracts and models up to date."),
    "config": ("meterhouse.cli.config:config", "Show each setting and where it came from."),
    "synth": ("meterhouse.cli.synth:synth", "Generate a lifelike delivery with known truth."),
    "demo": ("meterhouse.cli.demo:demo", "Generate, run and show everything once."),
}
"""Command to "module:attribute" and its one line of help, so that --help imports nothing."""


class LazyGroup(click.Group):
    """Lists all commands from ``COMMANDS``; imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a first session."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return ``cmd_name``."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meterhouse", prog_name="meterhouse")
@click.option(
    "--project",
    metavar="DIR",
    help="Project folder (else METERHOUSE_PROJECT, else the nearest parent of the current folder).",
)
@click.pass_context
def cli(ctx: click.Context, project: str | None) -> None:
    """Meterhouse turns raw cloud usage into numbers that can be audited."""
    ctx.obj = project


def main() -> None:
    """Run the program; exit 0 done, 1 data, 2 the user, 3 the environment, 70 a bug."""
    sys.exit(run())


def run() -> int:
    """Run the program and return its exit code; expected errors show no traceback."""
    try:
        result = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MeterhouseError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except OSError as error:
        failure = EnvironmentFailureError(
            f"the system refused: {error.strerror or error}",
            str(error.filename or ""),
            "see to it and run the same command again; nothing half-written is ever read",
        )
        click.echo(f"error: {failure}", err=True)
        return failure.exit_code
    except Exception:  # noqa: BLE001 - the run boundary: a bug shows its traceback and exits 70
        traceback.print_exc()
        click.echo("this is a bug in meterhouse; the log and the last answer are intact", err=True)
        return 70
    return result if isinstance(result, int) else 0
