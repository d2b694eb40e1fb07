"""`python -m dmcm`."""

from dmcm.cli import entry

entry()
