"""What xl and tc print, and that a VM's interface which is let go is found."""

from __future__ import annotations

import pytest

from shype.base.errors import Unavailable
from shype.host.drivers.xen.governor import policed, shares, towards
from shype.host.governor import Share

#: xl 4.17, tc of iproute2 6.1.
SHARES = """\
Cpupool Pool-0: ratelimit=1000us
Name                                ID Weight  Cap
Domain-0                             0    256    0
my own vm                           12    512   50
"""
QDISCS = (
    '[{"kind":"tbf","handle":"1:","root":true,"refcnt":2,"options":{"rate":12500000,"burst":625000,'
    '"lat":50000}},{"kind":"ingress","handle":"ffff:","parent":"ffff:fff1","options":{}}]')
FILTERS = """\
filter protocol all pref 1 matchall chain 0
filter protocol all pref 1 matchall chain 0 handle 0x1
  not_in_hw
\taction order 1:  police 0x1 rate {rate} burst 610Kb mtu 128Kb action drop overhead 0b
\tref 1 bind 1
"""


def test_shares() -> None:
    assert shares(SHARES) == {0: Share(256, 0), 12: Share(512, 50)}
    assert shares("") == {}


def test_rates() -> None:
    assert towards(QDISCS) == 100_000_000
    assert towards('[{"kind":"noqueue","root":true,"options":{}}]') == 0
    assert towards("") == 0
    for text, rate in (("100Mbit", 10**8), ("1500Kbit", 1_500_000), ("2Gbit", 2 * 10**9),
                       ("999bit", 999)):
        assert policed(FILTERS.format(rate=text)) == rate
    assert policed("") == 0


@pytest.mark.parametrize("text", ["{", '[{"kind":"tbf","root":true}]', "[1]"])
def test_what_tc_never_prints(text: str) -> None:
    with pytest.raises(Unavailable, match=r"quota\.governor"):
        towards(text)
