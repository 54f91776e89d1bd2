"""Which targets exist and what they must be."""
