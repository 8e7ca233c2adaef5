"""`python -m detour`."""

from detour.cli.main import main

main()
