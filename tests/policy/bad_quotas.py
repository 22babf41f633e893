"""Wrong quotas, one policy for each finding about them."""

from __future__ import annotations

from shype.policy.findings import Id
from tests.policy.bad_policy import Bad
from tests.policy.good_policies import QUOTAS

CASES = (
    Bad(Id.QUOTA_UNDECLARED, "    web: {vcpus", "    wbe: {vcpus", 16, 5, "`wbe`", "`web`",
        base=QUOTAS),
    Bad(Id.QUOTA_UNDECLARED, "    back: {each", "    bark: {vms: 1}\n    back: {each", 20, 5,
        "`bark`", "`back`",
        base=QUOTAS),
    Bad(Id.QUOTA_DOM0, "    back: {each", "    boss: {vms: 1}\n    back: {each", 20, 5,
        "dom0's label", "dom0_mem", base=QUOTAS),
    Bad(Id.QUOTA_RANGE, "vms: 20", "vms: 0", 14, 15, "`0` is not between 1", "from 1 to 65535",
        base=QUOTAS),
    Bad(Id.QUOTA_RANGE, "weight: 512", "weight: 70000", 19, 39, "`70000`", "65535", base=QUOTAS),
    Bad(Id.QUOTA_RESERVED, "reserved: {memory: 1 GiB},", "reserved: {memory: 3 GiB},", 18, 55,
        "3 GiB are reserved for `front`, which may have no more than 2 GiB", "allow more",
        base=QUOTAS),
    Bad(Id.QUOTA_RESERVED, "memory: 4 GiB, reserved: {memory: 1 GiB}", "memory: 512 MiB",
        18, 55, "its coalition `web`", "allow the coalition more", base=QUOTAS),
    Bad(Id.QUOTA_NO_HOST, "host: {vms: 20, memory: 8 GiB, ", "host: {vms: 20, ", 16, 55,
        "does not say what the host has of `memory`", "add `host: {memory", base=QUOTAS),
    Bad(Id.QUOTA_OVERBOOKED, "back: {each", "back: {reserved: {memory: 8 GiB}, each", 16, 55,
        "9 GiB are reserved in all, and the host may give no more than 8 GiB", "reserve less",
        base=QUOTAS),
    Bad(Id.QUOTA_NO_RATE, "    back: {each: {bandwidth: 10 Mbit/s}}\n", "", 14, 45,
        "a VM of `back` may send as much as it can", "quota of `back`", base=QUOTAS),
    Bad(Id.QUOTA_IMPOSSIBLE, "bandwidth: 1 Gbit/s", "bandwidth: 90 Mbit/s", 14, 45,
        "one interface of `front` takes 100 Mbit/s", "have less", base=QUOTAS),
    Bad(Id.QUOTA_UNREACHABLE, "vms: 2, ", "vms: 21, ", 18, 18, "the host no more than 20 VMs",
        "allow less", warning=True, base=QUOTAS),
    Bad(Id.QUOTA_UNREACHABLE, "memory: 2 GiB", "memory: 5 GiB", 18, 29,
        "its coalition `web` no more than 4 GiB", "allow less", warning=True, base=QUOTAS),
    Bad(Id.VALUE_NOT_ALLOWED, "memory: 2 GiB", "memory: 2 GB", 18, 29, "`2 GB`", "GiB",
        base=QUOTAS),
    Bad(Id.VALUE_NOT_ALLOWED, "1 Gbit/s", "1000", 14, 45, "`1000`", "Mbit/s", base=QUOTAS),
    Bad(Id.VALUE_NOT_ALLOWED, "50 %", "50%", 19, 25, "`50%`", "200 %", base=QUOTAS),
    Bad(Id.TYPE_WRONG, "vms: 20", 'vms: "20"', 14, 15, "whole number", "whole number",
        base=QUOTAS),
    Bad(Id.TYPE_WRONG, "vms: 20", "vms: -2", 14, 15, "a whole number from 1, but it is `-2`",
        "whole number from 1", base=QUOTAS),
    Bad(Id.TYPE_WRONG, "vms: 20", "vms: 1.5", 14, 15, "but it is `1.5`", "whole number from 1",
        base=QUOTAS),
    Bad(Id.TYPE_WRONG, "reserved: {memory: 1 GiB},", "reserved: null,", 18, 46,
        "it is nothing", "write a mapping of", base=QUOTAS),
    Bad(Id.KEY_UNKNOWN, "back: {each: {", "back: {cpu: 50 %, each: {", 20, 12, "`cpu` is unknown",
        "it belongs under `each`: each: {cpu: ...}", base=QUOTAS),
    Bad(Id.KEY_UNKNOWN, "host: {vms: 20", "host: {reserved: {vms: 1}, vms: 20", 14, 10,
        "`reserved` is unknown", "known keys", base=QUOTAS),
)
