"""Admission's way, walked aloud: what a client that asks for a name now gets, why, and what to do about it."""
