"""The command line: parses, calls, prints. `dmcm --help` starts here."""

from dmcm.cli.app import main

__all__ = ["main"]
