"""Blobs on disk, by sha256: what is here was checked, and stays within the room it was given."""
