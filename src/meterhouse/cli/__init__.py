"""The program: one file per command, imported only when it is called."""

from __future__ import annotations

import importlib
import io
import os
import shlex
import sys
import traceback
from typing import Final

import click

from meterhouse.cli.columns import printable
from meterhouse.cli.opening import SETTINGS
from meterhouse.errors import EnvironmentFailureError, MeterhouseError, SqlError, UsageError

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS: Final = {
    "init": ("meterhouse.cli.init:init", "Make a project folder."),
    "ingest": ("meterhouse.cli.ingest:ingest", "Take files into the log, each record judged."),
    "follow": ("meterhouse.cli.follow:follow", "Follow folders: live within a second."),
    "batch": ("meterhouse.cli.batch:batch", "Publish lake, gold and serving up to the log's head."),
    "query": ("meterhouse.cli.query:query", "Answer one of the six questions."),
    "read": ("meterhouse.cli.read:read", "Print a table."),
    "sql": ("meterhouse.cli.sql:sql", "Run one read-only SELECT over all tables."),
    "verify": ("meterhouse.cli.verify:verify", "Re-derive the ledger and check every byte."),
    "rebuild": ("meterhouse.cli.rebuild:rebuild", "Make the views anew from log and landing."),
    "quarantine": ("meterhouse.cli.quarantine:quarantine", "Show what is held, and why."),
    "explain": ("meterhouse.cli.explain:explain", "Show the records behind one row."),
    "reconcile": ("meterhouse.cli.reconcile:reconcile", "Metered against invoiced, by month."),
    "log": ("meterhouse.cli.log:log", "Seal what is due; the rest goes by itself."),
    "status": ("meterhouse.cli.status:status", "Sources, positions, sizes, drift on one screen."),
    "watch": ("meterhouse.cli.watch:watch", "A live view in the terminal."),
    "alerts": ("meterhouse.cli.alerts:alerts", "List what was raised; check the rules."),
    "models": ("meterhouse.cli.models:models", "List, explain, lint and draw the models."),
    "test": ("meterhouse.cli.test:test", "Run the given/expect tests of the models."),
    "contract": ("meterhouse.cli.contract:contract", "Check contracts; draft one from a file."),
    "catalog": ("meterhouse.cli.catalog:catalog", "Bring shipped contracts and models up to date."),
    "serving": ("meterhouse.cli.serving:serving", "Keep the gold tables in Cassandra or Astra DB."),
    "config": ("meterhouse.cli.config:config", "Show each setting and where it came from."),
    "synth": ("meterhouse.cli.synth:synth", "Generate a lifelike delivery with known truth."),
    "demo": ("meterhouse.cli.demo:demo", "Generate, run and show everything once."),
}
"""Command to "module:attribute" and its one line of help, so that --help imports nothing."""


class _ReaderLeftError(Exception):
    """Who read our output (head, less) has seen enough."""


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a name that does not exist is answered with the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError.unknown("command", args[0], COMMANDS, where="meterhouse --help")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; click would exit with 1, a broken promise, when ``head`` closes."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderLeftError from error

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
@click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting for this command alone, as engine.threads=1; may be repeated.",
)
@click.pass_context
def cli(ctx: click.Context, project: str | None, settings: tuple[str, ...]) -> None:
    """Meterhouse turns raw cloud usage into numbers that can be audited."""
    ctx.obj = project
    for text in settings:
        name, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f'"{text}" is no setting', "--set", "write --set engine.threads=1")
        ctx.meta.setdefault(SETTINGS, {})[name.strip()] = value.strip()


def main() -> None:
    """Run the program; exit 0 done, 1 data, 2 the user, 3 the environment, 70 a bug."""
    sys.exit(run())


def run() -> int:
    """Run the program and return its exit code; expected errors show no traceback."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character gets its number, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        result = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _failed(_usage(error))
    except _ReaderLeftError:
        # Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SqlError as error:
        # Who wrote the SQL would have turned it into an error of their own.
        return _bug(error)
    except MeterhouseError as error:
        return _failed(error)
    except (OSError, MemoryError) as error:
        return _failed(_environment(error))
    except Exception as error:  # noqa: BLE001 - the run boundary: a bug shows its traceback
        return _bug(error)
    return result if isinstance(result, int) else 0


def _failed(error: MeterhouseError) -> int:
    """Say what went wrong, where, and what to do; return the exit code."""
    if error.exit_code == MeterhouseError.exit_code:
        return _bug(error)
    where = error.where or shlex.join(["meterhouse", *sys.argv[1:]])
    fix = error.fix or "see what it can do: meterhouse --help"
    click.echo(f"error: {printable(str(MeterhouseError(error.what, where, fix)))}", err=True)
    return error.exit_code


def _usage(error: click.ClickException) -> UsageError:
    """Put what the command line's parser says into our words."""
    context = getattr(error, "ctx", None)
    path = context.command_path if isinstance(context, click.Context) else "meterhouse"
    what, _, hint = error.format_message().partition(" Did you mean ")
    what = what.strip().rstrip(".")
    fix = f"did you mean {hint}" if hint else f"see how it is written: {path} --help"
    return UsageError(what[:1].lower() + what[1:], path, fix)


def _environment(error: OSError | MemoryError) -> EnvironmentFailureError:
    if isinstance(error, MemoryError):
        return EnvironmentFailureError(
            "there is not enough memory",
            "",
            "give it more, or lower engine.memory and ingest.piece_bytes, and run it again",
        )
    return EnvironmentFailureError.of(error)


def _bug(error: Exception) -> int:
    traceback.print_exception(error)
    click.echo("this is a bug in meterhouse; the log and the last answer are intact", err=True)
    return 70
