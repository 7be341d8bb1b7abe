"""The project's contracts and models, and the edits that are made to them meanwhile."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from meterhouse.config import default_text
from meterhouse.intake.contracts import load_contracts
from meterhouse.layers.bronze import bronze_schemas
from meterhouse.models.graph import load_models
from simulation.truth import Variant, variant_of

__all__ = ["Catalog"]

_CATALOG = Path(__file__).with_name("catalog")


@dataclass(frozen=True)
class _Edit:
    path: str
    old: str
    new: str


_EDITS = {
    "threshold": _Edit("contracts/events.yaml", "cost >= -1\n", "cost >= -10\n"),
    "factor": _Edit(
        "models/silver/usage.sql",
        "coalesce(event.cost, 0)::DECIMAL",
        "(coalesce(event.cost, 0) * 2)::DECIMAL",
    ),
    "descending": _Edit(
        "models/gold/services.sql", "ORDER BY daily.service)", "ORDER BY daily.service DESC)"
    ),
    "audit": _Edit(
        "models/gold/revenue.sql",
        "audits:\n",
        "audits:\n  - never: SELECT 'on purpose' AS wrong\n",
    ),
    "broken": _Edit("models/gold/services.sql", "\nSELECT\n", "\nSELEKT\n"),
}


class Catalog:
    """The texts in the project folder, and what each published table was computed by."""

    def __init__(self, root: Path) -> None:
        """Make the project's folder."""
        self._root = root
        self.made: set[str] = set()
        """Edits that are in force."""
        self.variants: dict[str, Variant] = {}
        """``Model.sha256`` → what its text was."""
        for part in ("contracts", "models"):
            shutil.copytree(_CATALOG / part, root / part)
        (root / "meterhouse.toml").write_text(default_text())
        self._known()

    def edit(self, chance: random.Random) -> tuple[str, str]:
        """Make one edit, or take it back; return which, and that in words."""
        name = chance.choice(sorted(_EDITS))
        self._toggle(name)
        return name, f"{'makes' if name in self.made else 'takes back'} edit {name}"

    def mend(self) -> None:
        """Take back what keeps a batch from publishing."""
        for name in sorted(self.made & {"audit", "broken"}):
            self._toggle(name)

    def _toggle(self, name: str) -> None:
        edit = _EDITS[name]
        old, new = (edit.new, edit.old) if name in self.made else (edit.old, edit.new)
        path = self._root / edit.path
        text = path.read_text()
        assert text.count(old) == 1, f"{edit.path} holds it {text.count(old)} times: {old}"
        path.write_text(text.replace(old, new))
        self.made ^= {name}
        self._known()

    def _known(self) -> None:
        models = load_models(
            self._root / "models", bronze_schemas(load_contracts(self._root / "contracts"))
        )
        assert bool(models.problems) == ("broken" in self.made), models.problems
        texts = {
            name: (self._root / f"models/{name.replace('.', '/')}.sql").read_text()
            for name in ("silver.usage", "gold.services")
        }
        variant = variant_of(texts)
        for model in models.by_name.values():
            self.variants.setdefault(model.sha256, variant)
