"""From the origin to the store, once, however many ask: checked before any of it is released."""
