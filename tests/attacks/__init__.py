"""Named attempts against a host, each with what must come of it, on the real hypervisor.

One file ``test_AREA.py`` per area: a list ``ATTACKS``, a fixture ``arena`` (module scope), and
``test_attack = each(ATTACKS)``. The run ends with one table of all of them (tests/conftest.py).
"""
