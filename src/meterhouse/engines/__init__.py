"""Adapters of the Engine port: one file each."""
