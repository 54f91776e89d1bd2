"""Waystation measured beside what a user would pick instead; `scripts/bench` runs it."""
