"""Types shared by the command modules."""

from __future__ import annotations

import argparse
from typing import TypeAlias

#: What `ArgumentParser.add_subparsers` returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
