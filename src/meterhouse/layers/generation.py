"""A generation: the very texts of models and contracts that an epoch was computed with.

``generations/<sha256>.json`` holds them, named by its own hash, so pinning the same texts
again writes nothing. Epoch and speed layer name the hash (details["models"]): what is
edited meanwhile waits for the batch that publishes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from meterhouse.errors import ContractError, DamageError
from meterhouse.intake.contract import Contract
from meterhouse.intake.contracts import parse_contract
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.models.graph import Models, models_of
from meterhouse.ports import Blobs

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Generation", "generation_path", "pin", "read_generation"]

_FORMAT: Final = 1


@dataclass(frozen=True)
class Generation:
    """Models and contracts as one thing that never changes."""

    sha256: str
    """Of its file: what details["models"] of a publication and of the answers says."""
    models: Models
    contracts: Mapping[str, Contract]
    """Of every source, by source."""

    @property
    def sources(self) -> dict[str, pa.Schema]:
        """Every bronze relation that the models may read, with its schema."""
        return bronze_schemas(self.contracts)


def generation_path(sha256: str) -> str:
    """Return where the texts of a generation lie."""
    return f"generations/{sha256}.json"


def pin(blobs: Blobs, models: Models, contracts: Mapping[str, Contract]) -> Generation:
    """Keep the texts of the valid ``models`` and of ``contracts``, durably; return them.

    Idempotent. A model that is not valid is left out: its table stays behind anyway.
    """
    body = {
        "format": _FORMAT,
        "models": {
            # Not where the project lies: it may be moved, and is the same generation then.
            name: {"path": f"models/{name.replace('.', '/', 1)}.sql", "text": model.text}
            for name, model in sorted(models.by_name.items())
        },
        "contracts": {source: contract.text for source, contract in sorted(contracts.items())},
    }
    data = json.dumps(body, sort_keys=True, ensure_ascii=True, indent=1).encode("ascii") + b"\n"
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.put_if_absent(generation_path(sha256), data)
    return Generation(sha256, models, dict(contracts))


def read_generation(blobs: Blobs, sha256: str) -> Generation:
    """Return the generation that ``pin`` kept under ``sha256``.

    Parsing takes tenths of a second: keep the result as long as the hash stays.

    Raises:
        DamageError: It is missing, or not what was written.
    """
    where = generation_path(sha256)
    try:
        data = blobs.read(where)
    except FileNotFoundError as error:
        raise _damaged(where, "is missing") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(where, "was changed")
    body = _body(data, where)
    contracts = {}
    for source, text in body["contracts"].items():
        try:
            contracts[source] = parse_contract(text, f"contracts/{source}.yaml")
        except ContractError as error:
            raise _damaged(where, f"holds a contract that is not valid ({error.what})") from error
    # As they are read from the project: silver, then gold.
    names = sorted(body["models"], key=lambda name: (name.startswith("gold."), name))
    texts = {name: (body["models"][name]["text"], body["models"][name]["path"]) for name in names}
    models = models_of(texts, bronze_schemas(contracts))
    return Generation(sha256, models, contracts)


def _body(data: bytes, where: str) -> dict[str, Any]:
    body = json.loads(data)
    if body["format"] > _FORMAT:
        raise DamageError(
            f"the generation has format {body['format']}, newer than this program knows",
            where,
            "install a newer meterhouse; nothing was changed",
        )
    return dict(body)


def _damaged(where: str, how: str) -> DamageError:
    return DamageError(
        f"the texts that the answers were computed with can't be read: the file {how}",
        where,
        "publish anew, with the texts of the project folder: meterhouse batch --full",
    )
