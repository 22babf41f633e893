"""`shype dry-run`: every decision about a VM by its configuration, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli import main as cli

POLICY = """\
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [web, data]
walls: {rivals: [red, blue]}
labels:
  boss: {coalitions: [web]}
  red: {coalitions: [web], wall: [red]}
  blue: {coalitions: [web], wall: [blue]}
  alien: {coalitions: [data]}
resource-labels:
  webs: {coalitions: [web]}
  datas: {coalitions: [data]}
  none: {inaccessible: true}
resources:
  - {disk: "/dev/vg/web-*", label: webs}
  - {disk: "/dev/vg/data", label: datas}
  - {disk: "/dev/vg/key", label: none}
  - {network: br-web, label: webs}
  - {pci: "0000:03:00.*", label: webs}
host: {dom0: boss}
vms: {v: red}
"""
GOOD = """\
name = "v"
disk = ['phy:/dev/vg/web-1,xvda,w']
vif = ['bridge=br-web']
pci = ['03:00.0']
"""


class Files:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.policy = self.write("p.yaml", POLICY)

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def run(self, config: str, *more: str) -> int:
        return cli.main(["dry-run", self.policy, self.write("v.cfg", config), *more])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_passed(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.run(GOOD) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "VM v: label red"
    assert [line.split(":")[0].split("(")[0].strip() for line in lines[1:-1]] == [
        "permitted  launch", "permitted  disk /dev/vg/web-1", "permitted  network br-web",
        "permitted  pci 0000",
    ]
    assert lines[-1] == "dry run: passed"
    assert "as if nothing ran" in said.err


@pytest.mark.parametrize(("config", "about", "id"), [
    (GOOD.replace("web-1", "data"), "disk /dev/vg/data (read-write)", "resource.disjoint"),
    (GOOD.replace("web-1,xvda,w", "key,xvda,r"), "disk /dev/vg/key (read)",
     "resource.inaccessible"),
    (GOOD.replace("/dev/vg/web-1", "/dev/other"), "disk /dev/other (read-write)",
     "resource.unlabeled"),
    (GOOD.replace("br-web", "br-x"), "network br-x (read-write)", "resource.unlabeled"),
    ("name = 'other'", "label", "label.none"),
    ("name = 'o'\nseclabel = 'alien'", "launch", "auth.not-authorized"),
    ("name = 'o'\nseclabel = 'boss'", "launch", "auth.reserved"),
    ("name = 'v'\nseclabel = 'a'\ninit_seclabel = 'b'", "label", "label.relabel"),
])
def test_failed(
    files: Files, config: str, about: str, id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert files.run(config, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    denied = [q for q in answer["questions"] if q["verdict"] != "permit"]
    assert [(q["about"], q["id"]) for q in denied] == [(about, id)]
    assert files.run(config) == 1
    out = capsys.readouterr().out
    assert f"denied     {about}: " in out
    assert out.endswith("dry run: failed\n")


def test_the_wall_by_a_state(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    domains = [{"domid": 0, "vm": "Domain-0", "label": "boss"},
               {"domid": 1, "vm": "w", "label": "blue"}]
    state = files.write("s.json", json.dumps({"domains": domains}))
    assert files.run(GOOD, "--state", state) == 1
    said = capsys.readouterr()
    assert "denied     launch: red may not start: the wall rivals separates" in said.out
    assert "VM w (domain 1, label blue)" in said.out
    assert "as if nothing ran" not in said.err
    domains[1]["label"] = "red"
    state = files.write("s.json", json.dumps({"domains": domains}))
    assert files.run(GOOD, "--state", state, "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] is True


def test_who_runs_unknown_is_an_error_and_no_denial(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    state = files.write("s.json", json.dumps({"domains": [
        {"domid": 4, "vm": "x", "context": "system_u:system_r:domU_t"}]}))
    assert files.run(GOOD, "--state", state) == 3
    assert "[wall.unknown-running]" in capsys.readouterr().err


@pytest.mark.parametrize(("config", "id"), [
    ("name = 'v", "config.syntax"), ("disk = []", "config.invalid"),
    ("name = 'v'\ndisk = [[]]", "config.value"), ("name = 'v'\npci = ['x']", "resource.name"),
    ("name = 'o'\nseclabel = 'rd'", "label.unknown"),
    ("name = 'o'\nseclabel = 'a:b:c'", "label.unknown"),
])
def test_bad_configurations(
    files: Files, config: str, id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert files.run(config) == 2
    said = capsys.readouterr().err
    assert f"[{id}]" in said
    if id.startswith("config."):
        assert str(files.directory) in said  # several configurations may be looked at in a loop


def test_unreadable_configurations(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path, tmp_path / "none.cfg"):
        assert cli.main(["dry-run", files.policy, str(path)]) == 2
        assert "[config.unreadable]" in capsys.readouterr().err
    (tmp_path / "latin.cfg").write_bytes(b"name = '\xe9'")
    assert cli.main(["dry-run", files.policy, str(tmp_path / "latin.cfg")]) == 2
