"""The lake: Delta tables, and the one file that says which versions are published."""
