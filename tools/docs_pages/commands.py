"""The reference of the command line, from click's own description of it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from docs_pages.markdown import cell, code, plain, table
from meterhouse.cli import COMMANDS, cli

__all__ = ["command_reference", "commands"]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command and subcommand with its full name, groups before their members."""
    context = click.Context(cli, info_name="meterhouse")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None, name
        yield name, command
        if isinstance(command, click.Group):
            for inner in sorted(command.commands):
                yield f"{name} {inner}", command.commands[inner]


def command_reference() -> str:
    """Return one section for each command: usage, meaning, arguments and options."""
    listed = [(f"[`{name}`](#{name})", cell(line)) for name, (_, line) in COMMANDS.items()]
    sections = [table(["command", "what it does"], listed)]
    sections += [_section(name, command) for name, command in commands()]
    return "\n\n".join(sections)


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"meterhouse {name}")
    usage = " ".join(["meterhouse", name, *command.collect_usage_pieces(context)])
    level = "###" if " " in name else "##"
    parts = [f"{level} {name}", f"    {usage}", _prose(command.help or "")]
    rows = [_option(option, context) for option in command.params]
    rows = [row for row in rows if row]
    if rows:
        parts.append(table(["option", "default", "meaning"], rows))
    if command.epilog:
        parts.append(_prose(command.epilog))
    return "\n\n".join(part for part in parts if part)


def _option(parameter: click.Parameter, context: click.Context) -> tuple[str, ...]:
    """Return the table row of an option; an argument has none, the usage line shows it."""
    if not isinstance(parameter, click.Option):
        return ()
    spelled = parameter.opts[-1]
    if not parameter.is_flag:
        spelled += " " + parameter.make_metavar(context)
    given = parameter.get_default(context)
    shown = code(str(given)) if isinstance(given, str | int | float) else ""
    if parameter.is_flag:
        shown = ""
    return (cell(code(spelled)), shown, cell(parameter.help or ""))


def _prose(text: str) -> str:
    """Return click's help text as Markdown; lines under click's mark keep their breaks."""
    parts = []
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if lines and lines[0].strip() == "\b":
            parts.append(_kept(lines[1:]))
        else:
            parts.append(plain(" ".join(line.strip() for line in lines)))
    return "\n\n".join(parts)


def _kept(lines: list[str]) -> str:
    """Return "Example:" and the like as a line, what stands below it as a block of code."""
    head, rest = lines[0].strip(), lines[1:]
    margin = min((len(line) - len(line.lstrip()) for line in rest), default=0)
    return "\n\n".join([head, "\n".join("    " + line[margin:] for line in rest)])
