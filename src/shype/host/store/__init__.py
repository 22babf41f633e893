"""XenStore: what guests may do in it (`lockdown`), and who may read whose nodes.

FLASK does not see XenStore: a node's access list is the node owner's own, so by default a
guest gives any other guest access. docs/adr/0022-xenstore.md says what is done about it.
"""
