"""Errors, as distinct from denials.

A denial is a value (`shype.decision.decision.Decision`); an error is one of
these exceptions.  Each carries a stable id, a sentence and the fix, and each
class maps to one exit code of the command line: 2 for input that a user can
mend, 3 for everything else.
"""

from __future__ import annotations


class ShypeError(Exception):
    """Base of all errors that shype raises on purpose.

    Attributes: ``id`` a stable dotted id (``host.no-flask``), ``message`` one
    sentence, ``fix`` what the reader can do about it (may be empty).
    """

    exit_code = 3

    def __init__(self, id: str, message: str, fix: str = "") -> None:
        super().__init__(f"{message} [{id}]" + (f"\n  fix: {fix}" if fix else ""))
        self.id = id
        self.message = message
        self.fix = fix

    def to_json(self) -> dict[str, object]:
        """Shape of an error in every ``--json`` output."""
        return {"error": self.id, "message": self.message, "fix": self.fix}


class BadInput(ShypeError):
    """The user's input (a file, an argument, a label name) is at fault."""

    exit_code = 2


class Unavailable(ShypeError):
    """Something that must be there is not: a tool, the hypervisor, FLASK, a file system.

    Raised instead of going on without it: shype fails closed.
    """


class Internal(ShypeError):
    """shype itself is wrong, for example a failed translation validation."""
