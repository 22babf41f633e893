"""A policy that labels disks in a directory, and a judge of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shype.decision.security_server import SecurityServer
from shype.host.resources.judge import Judge
from shype.host.resources.labels import Labels
from shype.host.resources.registry import Used
from shype.policy.names import LabelName
from tests.host import builders

SHOP = """\
shype: 1
policy: {{name: shop, version: "1.0"}}
coalitions: [red, blue]
labels:
  manager: {{coalitions: all}}
  red-vm: {{coalitions: [red]}}
  blue-vm: {{coalitions: [blue]}}
resources:
  - {{disk: "{srv}/red-*", coalitions: [red]}}
  - {{disk: "{srv}/blue-*", coalitions: [blue]}}
  - {{disk: "p9:{srv}/shared", coalitions: [red]}}
  - {{disk: "usb:1-2", coalitions: [blue]}}
  - {{network: br-red, coalitions: [red]}}
  - {{network: br-blue, coalitions: [blue]}}
  - {{pci: "0000:03:00.0", coalitions: [red]}}
  - {{ioport: "0x2f8-0x2ff", coalitions: [blue]}}
host: {{dom0: manager}}
vms: {{red: red-vm, blue: blue-vm}}
"""


def server(tmp_path: Path) -> SecurityServer:
    """A security server; disks are in ``tmp_path``/srv."""
    srv = tmp_path / "srv"
    srv.mkdir(exist_ok=True)
    return SecurityServer(builders.policy(tmp_path, SHOP.format(srv=srv)))


def judge(
    tmp_path: Path, known: Mapping[str, Used] | None = None, label: str = "red-vm",
    running: Mapping[str, str] | None = None, *, paths_matter: bool = False,
) -> Judge:
    """Judges for the VM red, with the files that are there now."""
    made = server(tmp_path)
    peers = {name: LabelName(text) for name, text in (running or {}).items()}
    return Judge(made, Labels.of(made.policy), known or {}, peers.get, "red", LabelName(label),
                 paths_matter)
