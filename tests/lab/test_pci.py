"""PCI passthrough with an IOMMU: the hypervisor gives a card to its label's VMs only."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from shype.base import cpio
from shype.compile.flask.build import build
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.lab.conftest import guests
from tests.lab.test_faults import shype, wait_in_dom0

pytestmark = pytest.mark.lab

#: Of each card: its address, the memory of its BAR and its interrupt, as `lspci -v` shows them. Of
#: the blue one all but the card itself is labelled for both, so that it alone decides.
POLICY = """\
shype: 1
policy: {name: cards, version: "1.0"}
coalitions: [red, blue]
labels:
  manager: {coalitions: all}
  red-vm: {coalitions: [red]}
  blue-vm: {coalitions: [blue]}
resource-labels:
  red-card: {coalitions: [red]}
  blue-card: {coalitions: [blue]}
resources:
  - {pci: "0000:00:05.0", label: red-card}
  - {memory: "0xfe900000-0xfe9fffff", label: red-card}
  - {irq: 21, label: red-card}
  - {pci: "0000:00:06.0", label: blue-card}
  - {memory: "0xfea00000-0xfeafffff", coalitions: [red, blue]}
  - {irq: 22, coalitions: [red, blue]}
host: {dom0: manager}
vms: {red-1: red-vm, blue-1: blue-vm}
"""
RED, BLUE = "0000:00:05.0", "0000:00:06.0"
#: QEMU's "edu" card.
IDENTITY = "0x1234 0x11e8"
#: First in the guest: it finds its cards and says what they are.
START = """\
#!/bin/sh
insmod /pci.ko
for card in /sys/bus/pci/devices/*; do
  [ -e $card ] && echo "CARD $(cat $card/vendor) $(cat $card/device)"
done
echo CARDS-DONE
"""


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host with an IOMMU, whose two cards are free to be given away."""
    place = tmp_path_factory.mktemp("pci")
    (place / "cards.yaml").write_text(POLICY)
    build(load(place / "cards.yaml").policy, target="xen-4.17", out=place / "bundle")
    with Lab.up(bundle=place / "bundle", iommu=True) as up:
        extra = cpio.archive([
            cpio.file("pci.ko", up.get("/opt/modules/xen-pcifront.ko")),
            cpio.file("guest-start", START.encode(), 0o755),
        ])
        up.put("/run/extra", extra)
        done = up.sh(
            "set -e; cat /guest/initrd /run/extra >/run/initrd; "
            "insmod /opt/modules/xen-pciback.ko; "
            f"for card in {RED} {BLUE}; do xl pci-assignable-add $card; done")
        assert done.code == 0, done.err
        assert "quarantine" not in done.err, "between two VMs a card is in quarantine"
        yield up


def vm(lab: Lab, name: str, card: str | None, seclabel: str | None = None) -> str:
    """The configuration of a VM with that card."""
    extra = f'pci = ["{card}"]' if card else ""
    text = config(name, type="pv", seclabel=seclabel, extra=extra,
                  args="iommu=soft swiotlb=1024")
    path = f"/run/{name}.cfg"
    lab.put(path, text.replace("/guest/initrd", "/run/initrd"))
    return path


def cards(lab: Lab, name: str) -> list[str]:
    """What the guest says that it has."""
    log = f"/var/log/xen/console/guest-{name}.log"
    wait_in_dom0(lab, f"grep -q CARDS-DONE {log}")
    return re.findall(r"CARD (\S+ \S+)", lab.run(["cat", log]).out)


def denials(lab: Lab) -> list[tuple[str, ...]]:
    """Permission, source type, target type and class of what the hypervisor has refused."""
    said = lab.run(["xl", "dmesg"]).out
    return re.findall(
        r"denied  \{ (\w+) \}.*scontext=u:r:(\w+):\S+ tcontext=u:r:(\w+):\S+ tclass=(\w+)", said)


def test_a_card_goes_to_its_labels_vms_only(lab: Lab) -> None:
    assert "hvm_directio" in lab.run(["xl", "info"]).out, "there is an IOMMU"
    refused = shype(lab, "run", vm(lab, "blue-1", RED))
    assert (refused.code, refused.denial[0]) == (1, "resource.disjoint")
    assert shype(lab, "run", vm(lab, "red-1", RED)).code == 0
    assert cards(lab, "red-1") == [IDENTITY]
    assert shype(lab, "run", vm(lab, "blue-1", BLUE)).code == 0
    assert cards(lab, "blue-1") == [IDENTITY]
    assert shype(lab, "devices").code == 0


@pytest.mark.parametrize(("owner", "other", "card", "refused"), [
    ("red-1", "blue-1", RED, ("use_iommu", "l_blue_vm_t", "memory_red_card_t", "resource")),
    ("blue-1", "red-1", BLUE, ("use_iommu", "l_red_vm_t", "pci_blue_card_t", "resource")),
])
def test_behind_shypes_back_it_is_the_hypervisor_that_refuses(
    lab: Lab, owner: str, other: str, card: str, refused: tuple[str, ...]
) -> None:
    assert shype(lab, "stop", owner, "--force").code == 0
    assert card in lab.run(["xl", "pci-assignable-list"]).out, "free again"
    before = denials(lab)
    assert lab.run(["xl", "pci-attach", other, card], timeout=60).code != 0
    assert refused in denials(lab)[len(before):]
    assert lab.run(["xl", "pci-list", other]).out.count(":00:0") == 1, "its own"
    assert card in lab.run(["xl", "pci-assignable-list"]).out
    assert shype(lab, "run", vm(lab, owner, card)).code == 0, "nothing is left that hinders"
    assert cards(lab, owner)[-1] == IDENTITY


def test_who_has_hardware_does_not_flood_the_console(lab: Lab) -> None:
    """A PV kernel exchanges memory for DMA buffers: refusals came by the hundred."""
    assert not [one for one in denials(lab) if one[0] == "exchange"]
    assert set(guests(lab)) == {"red-1", "blue-1"}
