"""The oracle: what the tables must hold, from nothing but the standard library.

It shares no line with the product, on purpose: where both agree, two programs
written apart say the same. It is plain and slow; readability is its correctness.
"""

from oracle.compare import canonical, canonical_rows, differences
from oracle.oracle import Oracle

__all__ = ["Oracle", "canonical", "canonical_rows", "differences"]
