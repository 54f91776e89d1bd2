"""The HTTP face: it only reads, and no byte leaves it that was not checked."""
