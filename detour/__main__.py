"""`python -m detour`."""

from detour.cli import main

main()
