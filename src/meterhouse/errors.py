"""Everything Meterhouse raises on purpose: what happened, where, what to do.

Who is at fault is visible in the class, and decides the exit code of the program:
the author of a contract, model, setting or command (2), the data (1), the
environment (3). Anything else that escapes is a bug (70) and shows its traceback.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import ClassVar

__all__ = [
    "BrokenPromiseError",
    "ConfigError",
    "ContractError",
    "DamageError",
    "EnvironmentFailureError",
    "MeterhouseError",
    "ModelError",
    "SourceRefusedError",
    "SqlError",
    "UsageError",
    "error_from",
    "nearest",
]


class MeterhouseError(Exception):
    """Base class; catch it to catch everything the package raises on purpose.

    All subclasses share this constructor, so they survive pickling between
    workers. A situation that needs its own wording gets a named constructor.
    """

    code: ClassVar[str] = "error"
    """Stable, low-cardinality: API error body, metric label, documentation anchor."""
    exit_code: ClassVar[int] = 70
    """What the program exits with when this ends it."""
    retryable: ClassVar[bool] = False
    """True when the same call may succeed later without anybody changing anything."""

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        where = f"\n  where: {self.where}" if self.where else ""
        fix = f"\n  fix:   {self.fix}" if self.fix else ""
        return f"{self.what}{where}{fix}"

    def body(self) -> dict[str, str]:
        """Return the error as JSON has it; ``error_from`` makes it again."""
        return {"code": self.code, "what": self.what, "where": self.where, "fix": self.fix}


class UsageError(MeterhouseError):
    """A command or call names something that does not exist, or can't be combined."""

    code = "usage"
    exit_code = 2

    @classmethod
    def unknown(
        cls, kind: str, name: str, known: Iterable[str], *, where: str = "", fix: str = ""
    ) -> UsageError:
        """Name ``kind`` "name" as unknown; suggest the nearest of ``known``."""
        options = sorted(known)
        hint = nearest(name, options)
        listed = ", ".join(options[:20]) + (", …" if len(options) > 20 else "")
        advice = f'did you mean "{hint}"?' if hint else f"use one of {listed}" if listed else fix
        return cls(f'{kind} "{name}" does not exist', where, advice)


class ConfigError(MeterhouseError):
    """A setting is unknown, unreadable or missing; or there is no project here."""

    code = "config"
    exit_code = 2


class ContractError(MeterhouseError):
    """A contract file is not valid, or two contracts disagree."""

    code = "contract"
    exit_code = 2


class ModelError(MeterhouseError):
    """A model file is not valid, or its SQL fails; nothing was published."""

    code = "model"
    exit_code = 2


class SourceRefusedError(MeterhouseError):
    """One source was stopped before anything of it was numbered; others went on."""

    code = "source_refused"
    exit_code = 1


class BrokenPromiseError(ModelError):
    """An audit of a model does not hold; nothing was published, the last answer stays."""

    code = "broken_promise"
    exit_code = 1


class DamageError(MeterhouseError):
    """Stored bytes are not what was written; nothing is answered from them."""

    code = "damage"
    exit_code = 1


class EnvironmentFailureError(MeterhouseError):
    """The machine said no (disk full, permission, lock); may be retried."""

    code = "environment"
    exit_code = 3
    retryable = True

    @classmethod
    def of(
        cls,
        error: OSError,
        fix: str = "see to it and run the same command again; nothing half-written is ever read",
    ) -> EnvironmentFailureError:
        """Say what the system refused, and what to do."""
        where = error.filename
        return cls(
            f"the system refused: {error.strerror or error}",
            os.fsdecode(where) if isinstance(where, str | bytes) else "",
            fix,
        )


class SqlError(MeterhouseError):
    """The engine refused a statement.

    Who wrote the SQL turns it into an error of their own (ContractError, ModelError,
    UsageError); one that gets out is a bug of ours.
    """

    code = "sql"


def error_from(body: Mapping[str, str]) -> MeterhouseError:
    """Return the error that ``body`` was made of; one of a class unknown here as the base."""
    kinds: list[type[MeterhouseError]] = [MeterhouseError]
    for kind in kinds:
        if kind.code == body["code"]:
            return kind(body["what"], body["where"], body["fix"])
        kinds += kind.__subclasses__()
    return MeterhouseError(body["what"], body["where"], body["fix"])


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the entry of ``known`` most like ``name``, None when none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
