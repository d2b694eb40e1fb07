"""The command line: parses, calls, prints. `dmcm --help` starts here."""

from dmcm.cli.app import entry, main

__all__ = ["entry", "main"]
