"""Adapters of the Blobs port: one file each."""
