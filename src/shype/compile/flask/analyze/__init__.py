"""Where information can flow under any FLASK policy for Xen, read from its binary.

Everything errs on one side: what cannot be decided counts as possible, and is
marked so.  Written from Xen's sources (xen/xsm/flask/hooks.c, ss/services.c),
not from how shype compiles its own policies.
"""
