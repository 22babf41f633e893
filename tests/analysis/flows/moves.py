"""Which way information moves, for models in tests: written down apart from the product's table."""

from __future__ import annotations

#: By mechanism: operations of the source on the sink ...
FORTH = {
    "event": ["event.send"], "grant": ["grant.map_write", "grant.copy_to"],
    "argo": ["argo.send"], "disk": ["disk.write"], "network": ["network.send"],
    "xenstore": [],
    "foreign": ["foreign.map"],
}
#: ... and of the sink on the source.
BACK = {
    "grant": ["grant.map_read", "grant.map_write", "grant.copy_from"],
    "disk": ["disk.read", "disk.write"], "foreign": ["foreign.map"],
    "xenstore": ["xenstore.read"],
}
#: Both must run.
TOGETHER = {"event", "grant", "argo", "xenstore", "foreign"}
