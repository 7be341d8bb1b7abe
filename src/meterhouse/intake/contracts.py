"""Contracts from YAML: read, checked, found by file name. The data is in ``contract.py``."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meterhouse.errors import ContractError, UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contract_reading import read_contract

__all__ = [
    "COMPRESSIONS",
    "contract_files",
    "contract_text",
    "load_contract",
    "load_contracts",
    "parse_contract",
    "recognise",
]

COMPRESSIONS: Final = (".gz", ".zst")
"""Endings that a delivered file may have behind its own."""


def load_contract(path: Path) -> Contract:
    """Read and check the contract in ``path``.

    Raises:
        ContractError: It is not valid; the message names file, line and column.
    """
    return parse_contract(contract_text(path), str(path))


@functools.lru_cache(maxsize=64)
def parse_contract(text: str, where: str) -> Contract:
    """Read and check a contract; ``where`` is the file name that messages show.

    Raises:
        ContractError: It is not valid; the message names file, line and column.
    """
    return read_contract(text, where)[0]


def load_contracts(folder: Path) -> dict[str, Contract]:
    """Read every ``*.yaml`` of ``folder``, by source, sorted.

    Raises:
        ContractError: One is not valid, or two are for the same source or table.
    """
    found: dict[str, Contract] = {}
    owners: dict[str, Path] = {}
    for path in contract_files(folder):
        contract = load_contract(path)
        for name in (f"source {contract.source}", contract.table, contract.quarantine):
            if name in owners:
                raise ContractError(
                    f'two contracts are for the same "{name}"',
                    f"{owners[name]} and {path}",
                    "remove one of them, or give it another source: and table:",
                )
            owners[name] = path
        found[contract.source] = contract
    return dict(sorted(found.items()))


def contract_files(folder: Path) -> list[Path]:
    """Return the contract files of ``folder``, sorted by name."""
    return sorted(path for path in folder.glob("*.yaml") if path.is_file())


def recognise(contracts: Mapping[str, Contract], filename: str) -> Contract | None:
    """Return the contract whose ``files`` match the base name ``filename``, None when none does.

    Raises:
        UsageError: Two contracts match; which one is meant would be a guess.
    """
    base = filename
    for ending in COMPRESSIONS:
        base = base.removesuffix(ending)
    matching = [
        contract
        for contract in contracts.values()
        if any(fnmatch.fnmatchcase(base, pattern) for pattern in contract.files)
    ]
    if len(matching) > 1:
        sources = " and ".join(sorted(contract.source for contract in matching))
        raise UsageError(
            f'file "{filename}" is recognised by two contracts: {sources}',
            "files: of both contracts",
            "narrow one of the patterns, or say which with --source NAME",
        )
    return matching[0] if matching else None


def contract_text(path: Path) -> str:
    """Return the text of a contract file."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise ContractError(
            "contract file does not exist", str(path), "`meterhouse init` makes the shipped ones"
        ) from error
    except UnicodeDecodeError as error:
        raise ContractError("file is not UTF-8", str(path), "save it as UTF-8 text") from error
