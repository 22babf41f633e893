"""The house rules that a machine can check: imports point downwards, modules stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "shype"

#: Lowest first. A package may import itself and what stands before it.
LAYERS = (
    "base", "policy", "decision", "analysis", "compile", "host", "attest", "meter", "lab", "demo",
    "cli",
)

#: What runs in dom0 is in the trusted computing base: standard library only.
AGENT = (
    "base", "policy/names.py", "policy/source.py", "policy/model.py", "policy/assertions.py",
    "policy/bundle.py",
    "policy/manifest.py", "policy/contents.py", "policy/envelope.py", "policy/signed.py",
    "policy/ed25519.py", "decision", "analysis", "host",
)
#: Reads Xen's source code: for the author's machine, never on a host.
AUTHOR = SOURCE / "analysis" / "hooks"
#: The one exception: what checks a signature (docs/adr/0007-signed-bundles.md).
SIGNATURES = ("policy/ed25519.py", "cryptography")
#: And what decides arrays, which no host does: nothing imports it unless it is called.
ARRAYS = ("decision/batch.py", "numpy")

MODULES = sorted(SOURCE.rglob("*.py"))


def layer_of(module: Path) -> str | None:
    """The layer a source file belongs to; None for the package's own top files."""
    parts = module.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


def imports(module: Path) -> list[tuple[int, str]]:
    """Every absolute import of ``module``, lazy ones included: (line, dotted name)."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            found.append((node.lineno, node.module or ""))
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(module: Path) -> None:
    layer = layer_of(module)
    if layer is None:
        return
    rank = LAYERS.index(layer)
    for line, name in imports(module):
        parts = name.split(".")
        if parts[0] != "shype" or len(parts) < 2:
            continue
        target = parts[1]
        assert target in LAYERS, f"{module}:{line}: {name} is in no layer"
        assert LAYERS.index(target) <= rank, f"{module}:{line}: {layer} must not import {name}"


@pytest.mark.parametrize("part", AGENT)
def test_agent_imports_only_the_standard_library(part: str) -> None:
    import sys

    path = SOURCE / part
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    modules = [module for module in modules if AUTHOR not in module.parents]
    assert modules
    for module in modules:
        for line, name in imports(module):
            top = name.split(".")[0]
            if (str(module.relative_to(SOURCE)), top) in (SIGNATURES, ARRAYS):
                continue
            assert top == "shype" or top in sys.stdlib_module_names, f"{module}:{line}: {name}"


def test_only_one_module_uses_cryptography_and_only_when_it_must() -> None:
    users = {
        str(module.relative_to(SOURCE)) for module in MODULES
        if any(name.split(".")[0] == SIGNATURES[1] for _, name in imports(module))
    }
    # A verifier reads what other keys have signed; its machine is no enforcing host.
    verifier = {"attest/public.py", "attest/credential.py", "attest/quote.py"}
    assert users == {SIGNATURES[0]} | verifier
    attester = ("attester", "tpm", "event_log", "host_events", "evidence", "enrolment", "client",
                "agent_code")
    for part in attester:
        for _, name in imports(SOURCE / f"attest/{part}.py"):
            assert name not in {f"shype.{u[:-3].replace('/', '.')}" for u in verifier}, part
    tree = ast.parse((SOURCE / SIGNATURES[0]).read_text())
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert SIGNATURES[1] not in ast.unparse(node), "import it where a signature is checked"


def test_only_one_module_talks_to_a_tpm_and_imports_it_when_it_does() -> None:
    users = {
        str(module.relative_to(SOURCE)) for module in MODULES
        if any(name.split(".")[0] == "tpm2_pytss" for _, name in imports(module))
    }
    assert users == {"attest/tpm.py"}
    for node in ast.parse((SOURCE / "attest/tpm.py").read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "pytss" not in ast.unparse(node)


def test_agent_imports_nothing_above_the_bundle() -> None:
    # `analysis` is what an update of the policy is planned with.
    allowed = {"base", "policy", "decision", "analysis", "host"}
    readers = {"shype.policy.loader", "shype.policy.yaml_source", "shype.policy.schema"}
    for module in sorted((SOURCE / "host").rglob("*.py")):
        for line, name in imports(module):
            if name.startswith("shype."):
                assert name.split(".")[1] in allowed, f"{module}:{line}: {name}"
                assert not name.startswith("shype.analysis.hooks"), f"{module}:{line}: {name}"
                assert name not in readers, f"{module}:{line}: no YAML on an enforcing host"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_stay_small_and_documented(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= 400, f"{module}: more than one noun inside?"
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{module}: no docstring"


def test_child_processes_are_run_in_one_place() -> None:
    """`subprocess` is imported by base/child.py and by nothing else that runs on an author's
    machine; programs that run stand-alone inside the lab's dom0 are the exception."""
    users = {
        str(module.relative_to(SOURCE)) for module in MODULES
        if any(name.split(".")[0] == "subprocess" for _, name in imports(module))
    }
    allowed = {"base/child.py", "lab/dom0/labd.py", "lab/dom0/guestctl.py", "lab/spawn.py"}
    assert users <= allowed, f"use shype.base.child instead: {sorted(users - allowed)}"
