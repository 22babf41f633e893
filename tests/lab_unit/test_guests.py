"""Configurations of the lab's guests."""

from __future__ import annotations

from shype.lab.guests import QUICK_ARGS, config


def settings(text: str) -> dict[str, str]:
    return {key.strip(): value.strip() for key, _, value in
            (line.partition("=") for line in text.splitlines())}


def test_pv() -> None:
    found = settings(config("a", type="pv", seclabel="u:r:l_a_t:s0", args="x=1"))
    assert found["name"] == '"a"'
    assert found["type"] == '"pv"'
    assert found["seclabel"] == '"u:r:l_a_t:s0"'
    assert found["extra"] == f'"console=hvc0 quiet loglevel=1 {QUICK_ARGS} x=1"'


def test_pvh_does_not_look_for_hardware() -> None:
    text = config("a", memory=96, extra='vif = ["bridge=xenbr0"]')
    found = settings(text)
    assert "pci=off" in found["extra"]
    assert found["memory"] == "96"
    assert "seclabel" not in found
    assert text.endswith('vif = ["bridge=xenbr0"]\n')


def test_hvm_boots_from_a_disk() -> None:
    found = settings(config("a", type="hvm"))
    assert found["type"] == '"hvm"'
    assert found["vga"] == '"none"'
    assert "kernel" not in found
