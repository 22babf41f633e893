"""The host agent: it runs in dom0 and keeps what the hypervisor cannot keep: who runs.

It is part of the trusted computing base and uses the standard library only.
"""
