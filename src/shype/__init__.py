"""shype: mandatory access control for virtual machines, enforced by the hypervisor.

Layers import downwards only (``tests/test_layers.py`` forbids the rest)::

    base -> policy -> decision -> compile -> host -> lab -> demo -> cli
"""

__version__ = "0.1.0"
