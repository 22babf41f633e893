"""The digest of the agent's code: what a host measures when its agent starts, and what the author
computes from the same package. Standard library only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import shype
from shype.base import canonical
from shype.base.errors import BadInput

#: Where the code that is running is.
RUNNING = Path(shype.__file__).resolve().parent


def digest(package: Path = RUNNING) -> str:
    """SHA-256, 64 hex digits, of names and digests of all files of the package ``package``.

    Compiled caches are left out: Python makes them. Raises BadInput (``agent-code.none``) if there
    is no package.
    """
    files = {
        str(path.relative_to(package)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if "__init__.py" not in files:
        raise BadInput(
            "agent-code.none", f"{package} is not shype's package",
            "name the directory with __init__.py, of the version on the hosts: src/shype in a "
            "checkout, usr/share/shype/shype in the Debian package",
        )
    return canonical.digest(canonical.dumps(files))
