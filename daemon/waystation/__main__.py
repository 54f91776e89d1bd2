"""``python -m waystation`` is the same as ``waystation``."""

from waystation.cli import main

main()
