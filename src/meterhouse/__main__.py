"""``python -m meterhouse``."""

from meterhouse.cli import main

main()
