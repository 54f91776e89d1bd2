"""Kills a real daemon, over and over, under mixed load on a real MinIO, and counts what it got wrong."""
