"""Waystation: a verifying artifact cache and local HTTP mirror for Nomad clients."""
