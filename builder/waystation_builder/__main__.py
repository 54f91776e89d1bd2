"""``python -m waystation_builder`` is the same as ``waystation-builder``."""

from waystation_builder.cli import main

main()
