"""The sample, published once, for tests that take minutes."""

from e2e.conftest import sample_house, sample_oracle

__all__ = ["sample_house", "sample_oracle"]
