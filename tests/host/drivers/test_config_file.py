"""xl's configurations read without xl: grammar, resources, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.host.drivers.xen.config_file import Use, parse, uses, word, words
from shype.policy.model import ResourceKind


def test_assignments() -> None:
    assert parse("""\
# a VM
name = "web-1"   # its name
memory=512; vcpus = 2
disk = [ 'phy:/dev/vg/web,xvda,w',
         "format=raw, vdev=xvdb, access=ro, target=/a,b" , ]
empty = []
nested = [ [ "a", 1 ], 'b' ]
uuid = '6f0c2d8e'
text = "a \\"quoted\\" \\x \\101\\n # no comment"
name = 'later'
extra = "a"
extra += "b"
list = ["a"]
list += ["b"]
new += ["c"]
hex = 0x1F
""") == {
        "name": "later", "memory": "512", "vcpus": "2",
        "disk": ["phy:/dev/vg/web,xvda,w", "format=raw, vdev=xvdb, access=ro, target=/a,b"],
        "empty": [], "nested": [["a", "1"], "b"], "uuid": "6f0c2d8e",
        "text": 'a "quoted" x A\n # no comment', "extra": "ab", "list": ["a", "b"], "new": ["c"],
        "hex": "0x1F",
    }


@pytest.mark.parametrize(("text", "line"), [
    ("name = web", 1), ("name", 1), ("name =", 1), ("= 1", 1), ("a = 1 b = 2", 1),
    ("a = [", 1), ("a = [\n1", 2), ("a = ['x' 'y']", 1), ("\n\na = 'x", 3), ("a = \"x\ny\"", 1),
    ("a = open('/x').read()", 1), ("import os", 1), ("a = 'x' % 1", 1), ("a += ['x']\na += 'x'", 2),
    ("a = " + "[" * 20, 1), ("a = [1;2]", 1), ("a = {}", 1), ("a == 1", 1), ("a = \0", 1),
])
def test_what_xl_would_not_read_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(BadInput, match=f"line {line}: ") as caught:
        parse(text)
    assert caught.value.id == "config.syntax"


def test_large_files_are_refused() -> None:
    with pytest.raises(BadInput):
        parse("#" * (1024 * 1024 + 1))


@given(st.one_of(st.text(max_size=200), st.text("a='\"[],\n\\#;+1 ", max_size=80)))
def test_any_text_gives_assignments_or_our_error(text: str) -> None:
    try:
        found = parse(text)
        uses(found)
    except BadInput as refusal:
        assert refusal.id in ("config.syntax", "config.value")  # noqa: PT017


DISK = ResourceKind.DISK


@pytest.mark.parametrize(("text", "found"), [
    ("phy:/dev/vg/web,xvda,w", Use(DISK, "/dev/vg/web", True)),
    ("phy:/dev/vg/web,xvda,r", Use(DISK, "/dev/vg/web", False)),
    ("/dev/vg/web,raw,xvda,ro", Use(DISK, "/dev/vg/web", False)),
    ("/dev/vg/web,raw,xvda", Use(DISK, "/dev/vg/web", True)),
    ("tap:aio:/img/a.raw,xvda,w", Use(DISK, "/img/a.raw", True)),
    ("file:/img/a,hda:cdrom,r", Use(DISK, "/img/a", False)),
    ("format=raw, vdev=xvdb, access=ro, target=/a,b", Use(DISK, "/a,b", False)),
    ("vdev=xvdb,target=/a", Use(DISK, "/a", True)),
    ("/iso/x.iso,raw,hdc,rw,cdrom", Use(DISK, "/iso/x.iso", False)),
    (",raw,hdc,ro,cdrom", None), ("target=/dev/x", Use(DISK, "/dev/x", True)),
    ("phy:", BadInput), ("/dev/x,raw,xvda,access=maybe", BadInput),
])
def test_disks(text: str, found: Use | type[BadInput] | None) -> None:
    if found is BadInput:
        with pytest.raises(BadInput):
            uses({"disk": [text]})
    else:
        assert uses({"disk": [text]}) == ((found,) if found else ())


def test_networks_and_devices() -> None:
    found = uses(parse("""\
vif = ['mac=00:16:3e:00:00:01,bridge=br-web', 'type=vif']
pci = ['03:00.0', '0000:04:00.1,permissive=1', '05:00.*@7', 'bdf=06:00.0,msitranslate=1']
irqs = [5, 7]
ioports = ["2f8-2ff", "3f8"]
iomem = ["fed40,1", "e0000,10@0"]
"""))
    assert [(use.kind.value, use.name) for use in found] == [
        ("network", "br-web"), ("network", "xenbr0"), ("pci", "0000:03:00.0"),
        ("pci", "0000:04:00.1"), ("pci", "0000:05:00.*"), ("pci", "0000:06:00.0"), ("irq", "5"),
        ("irq", "7"), ("ioport", "0x2f8-0x2ff"), ("ioport", "0x3f8"),
        ("memory", "0xfed40000-0xfed40fff"), ("memory", "0xe0000000-0xe000ffff"),
    ]


@pytest.mark.parametrize("text", [
    "disk = [['a']]", "ioports = ['x']", "iomem = ['fed40']", "iomem = ['fed40,0']",
    "ioports = ['1-2-3']",
])
def test_values_that_are_not_understood(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        uses(parse(text))
    assert caught.value.id == "config.value"


def test_single_words() -> None:
    config = parse("name = 'x'\nseclabel = ''\nvif = 'bridge=a'")
    assert (word(config, "name"), word(config, "seclabel"), word(config, "none")) == (
        "x", None, None)
    assert words(config, "vif") == ["bridge=a"]
    with pytest.raises(BadInput):
        word(parse("name = ['x']"), "name")
