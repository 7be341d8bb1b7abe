"""The texts an epoch was computed with: pinned by their hash, read back as they were."""

from __future__ import annotations

import pytest

from meterhouse.errors import DamageError
from meterhouse.layers.generation import generation_path, pin, read_generation
from meterhouse.testing import MemoryBlobs
from unit.layers.house import few_contracts, model_text, shipped_contracts, shipped_models
from unit.layers.house import small_models as models_with


def test_what_is_pinned_comes_back_as_it_was() -> None:
    contracts = shipped_contracts()
    models = shipped_models(contracts)
    blobs = MemoryBlobs()

    pinned = pin(blobs, models, contracts)
    found = read_generation(blobs, pinned.sha256)

    assert found.sha256 == pinned.sha256
    assert dict(found.contracts) == contracts
    assert found.models.problems == ()
    assert found.models.order == models.order
    assert {name: found.models[name].sha256 for name in models.order} == {
        name: models[name].sha256 for name in models.order
    }


def test_pinning_the_same_texts_again_writes_nothing() -> None:
    contracts = few_contracts()
    blobs = MemoryBlobs()

    first = pin(blobs, models_with(contracts), contracts)
    second = pin(blobs, models_with(contracts), contracts)

    assert first.sha256 == second.sha256
    assert list(blobs.list("generations")) == [generation_path(first.sha256)]


def test_another_text_is_another_generation() -> None:
    contracts = few_contracts()
    blobs = MemoryBlobs()
    edited = model_text("costs").replace("description: Cost by day.", "description: Other.")

    hashes = {
        pin(blobs, models_with(contracts), contracts).sha256,
        pin(blobs, models_with(contracts, gold_costs=edited), contracts).sha256,
        pin(blobs, models_with(contracts), shipped_contracts()).sha256,
    }

    assert len(hashes) == 3


def test_an_invalid_model_is_not_pinned() -> None:
    contracts = few_contracts()
    blobs = MemoryBlobs()
    models = models_with(contracts, gold_costs="SELECT 1")
    assert models.problems

    found = read_generation(blobs, pin(blobs, models, contracts).sha256)

    assert "gold.costs" not in found.models
    assert found.models.problems == ()


@pytest.mark.parametrize("how", ["missing", "changed"])
def test_texts_that_are_lost_or_changed_are_damage(how: str) -> None:
    contracts = few_contracts()
    blobs = MemoryBlobs()
    path = generation_path(pin(blobs, models_with(contracts), contracts).sha256)
    if how == "missing":
        blobs.delete(path)
    else:
        blobs.put(path, blobs.read(path).replace(b"Cost by day", b"Cost by dax"))

    with pytest.raises(DamageError, match=how):
        read_generation(blobs, path.removeprefix("generations/").removesuffix(".json"))
