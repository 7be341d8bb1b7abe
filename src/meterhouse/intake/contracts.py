"""Contracts from YAML: read, checked, found by file name. The data is in ``contract.py``."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from meterhouse.errors import ContractError, UsageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contract_reading import read_contract

__all__ = [
    "COMPRESSIONS",
    "BadContract",
    "ContractFolder",
    "contract_files",
    "contract_text",
    "load_contract",
    "load_contracts",
    "parse_contract",
    "read_contracts",
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


@dataclass(frozen=True, slots=True)
class BadContract:
    """A contract file that can't be used. It stops its own source only."""

    source: str
    """As far as the file still says, else by its name."""
    files: tuple[str, ...]
    """Its patterns, as far as it still says: deliveries of theirs wait for it."""
    error: ContractError

    def claims(self, filename: str) -> bool:
        """Return whether a delivery of this base name waits for this contract."""
        return _matches(self.files, filename)


@dataclass(frozen=True, slots=True)
class ContractFolder:
    """The contract files of a folder, each read by itself."""

    contracts: Mapping[str, Contract]
    """By source, sorted."""
    bad: tuple[BadContract, ...]
    """What is not valid; two for the same source or table are both."""

    @property
    def problems(self) -> list[ContractError]:
        """Return what is wrong, each once."""
        return list(dict.fromkeys(bad.error for bad in self.bad))


def load_contracts(folder: Path) -> dict[str, Contract]:
    """Read every ``*.yaml`` of ``folder``, by source, sorted.

    Raises:
        ContractError: One is not valid, or two are for the same source or table.
    """
    found = read_contracts(folder)
    for bad in found.bad:
        raise bad.error
    return dict(found.contracts)


def read_contracts(folder: Path) -> ContractFolder:
    """Read every ``*.yaml`` of ``folder``; one that is not valid leaves the others alone."""
    found: dict[Path, Contract] = {}
    bad: list[BadContract] = []
    for path in contract_files(folder):
        try:
            found[path] = load_contract(path)
        except ContractError as error:
            bad.append(_bad(path, error))
    owners: dict[str, Path] = {}
    for path, contract in list(found.items()):
        for name in (f"source {contract.source}", *contract.tables):
            other = owners.setdefault(name, path)
            if other == path:
                continue
            clash = ContractError(
                f'two contracts are for the same "{name}"',
                f"{other} and {path}",
                "remove one of them, or give it another source: and table:",
            )
            # Which of the two is meant would be a guess.
            for each in (other, path):
                claimant = found.pop(each, None)
                if claimant is not None:
                    bad.append(BadContract(claimant.source, claimant.files, clash))
    contracts = {contract.source: contract for contract in found.values()}
    return ContractFolder(dict(sorted(contracts.items())), tuple(bad))


def _bad(path: Path, error: ContractError) -> BadContract:
    """Keep what a file that is not a contract still says of whose it is."""
    try:
        body = yaml.safe_load(path.read_bytes())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        body = None
    said = body if isinstance(body, dict) else {}
    source, files = said.get("source"), said.get("files")
    return BadContract(
        source if isinstance(source, str) and source else path.stem,
        tuple(name for name in files if isinstance(name, str)) if isinstance(files, list) else (),
        error,
    )


def contract_files(folder: Path) -> list[Path]:
    """Return the contract files of ``folder``, sorted by name."""
    return sorted(path for path in folder.glob("*.yaml") if path.is_file())


def recognise(contracts: Mapping[str, Contract], filename: str) -> Contract | None:
    """Return the contract whose ``files`` match the base name ``filename``, None when none does.

    Raises:
        UsageError: Two contracts match; which one is meant would be a guess.
    """
    matching = [contract for contract in contracts.values() if _matches(contract.files, filename)]
    if len(matching) > 1:
        sources = " and ".join(sorted(contract.source for contract in matching))
        raise UsageError(
            f'file "{filename}" is recognised by two contracts: {sources}',
            "files: of both contracts",
            "narrow one of the patterns, or say which with --source NAME",
        )
    return matching[0] if matching else None


def _matches(patterns: Sequence[str], filename: str) -> bool:
    base = filename
    for ending in COMPRESSIONS:
        base = base.removesuffix(ending)
    return any(fnmatch.fnmatchcase(base, pattern) for pattern in patterns)


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
