"""Deliveries like a real one, of any size, with the truth about them.

    generate(Path("delivery"), Options(events=100_000, seed=3))

Same options, same bytes. Amounts are integers of their last decimal until printed.
"""

from meterhouse.synth.delivery import generate
from meterhouse.synth.options import Options
from meterhouse.synth.truth import Truth

__all__ = ["Options", "Truth", "generate"]
