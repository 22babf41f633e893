"""The text for nft: one transaction, closed where nothing is known, own names only."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from shype.decision.security_server import SecurityServer
from shype.host.network.matrix import Matrix, matrix
from shype.host.network.reasons import Reason
from shype.host.network.ruleset import ruleset
from shype.host.network.vif import Uplink, assigned_addresses
from shype.policy.names import LabelName
from tests.host import builders
from tests.host.network.builders import TEXT, vif


@pytest.fixture
def made(tmp_path: Path) -> Matrix:
    server = SecurityServer(builders.policy(tmp_path, TEXT))
    pinned = replace(vif(2), addresses=assigned_addresses("10.0.0.2 fd00::2") or ())
    return matrix(
        server,
        [(vif(1), LabelName("red-vm")), (pinned, LabelName("blue-vm")), (vif(3), None),
         (vif(4, name="web"), LabelName("both-vm"))],
        [Uplink("eth1.10", "br0", 10), Uplink("eth1.20", "br0", 10)],
    )


def block(text: str, head: str) -> list[str]:
    """The lines of a set, map or chain."""
    match = re.search(rf"^ {re.escape(head)} \{{\n(.*?)^ \}}", text, re.DOTALL | re.MULTILINE)
    assert match is not None, head
    return [line.strip() for line in match[1].splitlines()]


def test_one_transaction_replaces_all(made: Matrix) -> None:
    lines = ruleset(made).splitlines()
    assert lines[:3] == ["table bridge shype {}", "delete table bridge shype",
                         "table bridge shype {"]
    assert lines[-1] == "}"


def test_every_port_is_known_and_only_classes_send(made: Matrix) -> None:
    text = ruleset(made)
    for name in ("vif1.0", "vif2.0", "vif3.0", "web", "eth1.10", "eth1.20"):
        assert f'"{name}"' in block(text, "set ports")[1]
    gate = block(text, "map gate")[1]
    assert '"vif3.0" : goto refuse_closed' in gate  # of unknown label
    # Whoever does not speak in its own name comes here.
    assert '"web" : goto refuse_mac' in gate
    own = block(text, "map own")[1]
    assert '"web" . 00:16:3e:00:00:04 : goto free' in own
    assert '"vif2.0" . 00:16:3e:00:00:02 : goto pinned' in own
    assert "vif3.0" not in own
    assert '"eth1.10" : goto outside' in gate
    for direction in ("sender", "receiver"):
        listed = block(text, f"map {direction}")[1]
        assert '"vif1.0"' in listed
        assert '"vif3.0"' not in listed
        assert '"eth1.20"' not in listed  # it is another VLAN than its name says
    assert block(text, "map matrix")[1].count("goto pass") == len(made.pairs)
    assert '"vif3.0" : goto refuse_to_dom0' in block(text, "map to_dom0")[1]


@pytest.mark.parametrize("hook", ["prerouting", "forward", "input", "output"])
def test_what_nobody_has_labelled_passes_no_hook(made: Matrix, hook: str) -> None:
    rules = block(ruleset(made), f"chain {hook}")
    assert rules[0].startswith(f"type filter hook {hook} ")
    assert re.fullmatch(r'[io]ifname "vif\*" (drop|goto refuse_stranger)', rules[-1])
    assert block(ruleset(made), "chain refuse_stranger")[-1] == "drop"


def test_a_vm_speaks_in_its_own_name(made: Matrix) -> None:
    text = ruleset(made)
    free, pinned = block(text, "chain free"), block(text, "chain pinned")
    assert not any("saddr" in rule for rule in free)
    assert "ether type arp iifname . arp saddr ether != @macs goto refuse_arp" in block(
        text, "chain others")
    four = "ether type ip iifname . ip saddr != @four goto refuse_address"
    assert pinned.index(four) < pinned.index("ether type ip accept")
    assert block(text, "set four")[1] == 'elements = { "vif2.0" . 10.0.0.2 }'
    assert block(text, "set six")[1] == (
        'elements = { "vif2.0" . fd00::2, "vif2.0" . fe80::216:3eff:fe00:2 }')


def test_an_address_of_one_family_only_leaves_the_other_none(made: Matrix) -> None:
    six = replace(made.ports[1].vif, addresses=assigned_addresses("fd00::2") or ())
    only = replace(made, ports=(replace(made.ports[1], vif=six),))
    assert block(ruleset(only), "set four") == ["type ifname . ipv4_addr"]
    assert "goto pinned" in block(ruleset(only), "map own")[1]


def test_every_frame_that_is_dropped_is_counted_or_goes_to_a_stranger(made: Matrix) -> None:
    text = ruleset(made)
    for reason in Reason:
        rules = block(text, f"chain {reason.chain}")
        assert rules[0].startswith("add @refused {")
        assert rules[1:] == ["drop"]
    drops = [line.strip() for line in text.splitlines() if re.search(r"\bdrop\b", line)]
    assert sorted(set(drops)) == ["drop", 'oifname "vif*" drop']


def test_more_ports_are_more_elements_and_no_more_rules_or_sets(tmp_path: Path) -> None:
    server = SecurityServer(builders.policy(tmp_path, TEXT))

    def lines(count: int) -> list[str]:
        found = [(replace(vif(n), addresses=assigned_addresses(f"10.0.0.{n}") or ()),
                  LabelName("red-vm")) for n in range(1, count + 1)]
        return [line for line in ruleset(matrix(server, found)).splitlines()
                if "elements" not in line]

    assert lines(1) == lines(200)


def test_without_ports_the_table_still_keeps_strangers_out(tmp_path: Path) -> None:
    text = ruleset(matrix(SecurityServer(builders.policy(tmp_path, TEXT)), []))
    assert "elements" not in text
    assert len(re.findall(r'"vif\*" (drop|goto refuse_stranger)', text)) == 5
