"""Heads of saved VMs: read as xl writes them, rewritten, and never believed."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest

from shype.base.errors import BadInput
from shype.host.image import MAGIC, Head, dumps, read_head

UUID = "0d6f1a6e-7b43-4b7e-9b0a-2f3c4d5e6f70"
#: What libxl writes, shortened.
CONFIG: dict[str, Any] = {
    "c_info": {"type": "pv", "name": "a-db", "uuid": UUID, "ssid_label": "u:r:l_a_t:s0"},
    "b_info": {"max_vcpus": 1, "type.pv": {}}, "on_reboot": "preserve", "on_crash": "preserve",
}


def head(config: object = CONFIG, **change: int) -> bytes:
    """As save_domain_core_writeconfig() of tools/xl/xl_saverestore.c writes it."""
    text = json.dumps(config).encode() + b"\0"
    data = struct.pack("=I", len(text)) + text
    numbers = {"order": 0x01020304, "mandatory": 3, "optional": 0, "length": len(data), **change}
    return struct.pack("=32s4I", MAGIC, *numbers.values()) + data


def read(data: bytes) -> Head:
    return read_head(io.BytesIO(data + b"stream").read)


def test_what_xl_writes_is_read() -> None:
    found = read(head())
    assert (found.name, found.uuid, found.context) == ("a-db", UUID, "u:r:l_a_t:s0")
    assert found.raw == head()
    assert found.receipt is None
    assert found.vm.seclabel is None
    assert found.actions == {"on_reboot": "restart", "on_crash": "preserve"}


def test_the_name_of_a_receipt_is_in_the_tail() -> None:
    name = "0123456789abcdef" * 2
    assert read(dumps(CONFIG, name)).receipt == name
    assert read(dumps(CONFIG, "../../../etc/passwd")).receipt is None
    assert read(dumps(CONFIG)).receipt is None


def test_no_other_label_goes_through() -> None:
    forged = {**CONFIG, "on_reboot": "restart", "c_info": {
        **CONFIG["c_info"], "ssidref": 7, "domid": 5}, "b_info": {
        "max_vcpus": 1, "exec_ssid_label": "u:r:l_b_t:s0", "exec_ssidref": 8,
        "device_model_ssid_label": "u:r:dom0_t:s0", "device_model_ssidref": 1}}
    found = read(head(forged))
    assert found.context == "u:r:l_b_t:s0"  # what it would end as
    made = read(found.rewritten("u:r:l_c_t:s0", {"on_reboot": "restart"}))
    assert made.config["c_info"] == {
        "type": "pv", "name": "a-db", "uuid": UUID, "ssid_label": "u:r:l_c_t:s0"}
    assert made.config["b_info"] == {"max_vcpus": 1}
    assert made.config["on_reboot"] == "preserve"
    assert made.config["on_crash"] == "destroy"


def test_its_disks_are_decided_like_those_of_a_configuration() -> None:
    disk = {"pdev_path": "/dev/vg0/b", "vdev": "xvda", "backend": "phy", "readwrite": 1}
    assert len(read(head({**CONFIG, "disks": [disk]})).vm.devices.all) == 1
    with pytest.raises(BadInput):
        _ = read(head({**CONFIG, "disks": [3]})).vm


@pytest.mark.parametrize("data", [
    b"", head()[:40], head()[:60], b"x" * 500, head(order=0x04030201), head(mandatory=2),
    head(mandatory=7), head(length=0), head(length=3), head(length=2**31), head([]),
    head({"c_info": {"name": "a"}}), head({"c_info": {"name": 3, "uuid": "x"}}),
    head({**CONFIG, "on_reboot": 3}), head({**CONFIG, "b_info": []}),
    head().replace(b'{"c_info"', b'["c_info"'), head()[:48] + struct.pack("=I", 2**30) + b"{}" * 99,
    struct.pack("=32s4II", MAGIC, 0x01020304, 3, 0, 40004, 40000) + b"[" * 40000,
])
def test_other_files_are_no_images(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        read_head(io.BytesIO(data).read)
    assert caught.value.id == "image.invalid"
