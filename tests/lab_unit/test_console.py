"""How a boot failed is read off the serial log."""

from __future__ import annotations

import pytest

from shype.lab import console

PANIC = """\
(XEN) Initialising XSM
(XEN)
(XEN) ****************************************
(XEN) Panic on CPU 0:
(XEN) Unable to load FLASK policy
(XEN) ****************************************
"""


@pytest.mark.parametrize(("log", "why"), [
    ("(XEN) all is well\nLAB-AGENT 9.1\n", None),
    (PANIC, "Xen panic: Unable to load FLASK policy"),
    (PANIC[: PANIC.index("(XEN) Unable")], None),
    ("(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.\n",
     "Hardware Dom0 crashed: rebooting machine in 5 seconds."),
    ("[ 1.0] Kernel panic - not syncing: No init\n", "[ 1.0] Kernel panic - not syncing: No init"),
    ("LAB-FAILED root disk\n", "LAB-FAILED root disk"),
])
def test_failure(log: str, why: str | None) -> None:
    assert console.failure(log) == why


def test_last_words_skip_blank_lines() -> None:
    assert console.last_words("a\n\nb\nc\n\n", 2) == "b\nc"
