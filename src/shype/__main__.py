"""`python -m shype`."""

from shype.cli.main import console

console()
