"""``python -m interp.cli``."""

from interp.cli import main

main()
