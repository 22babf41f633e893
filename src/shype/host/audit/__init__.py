"""The record of what the agent decided, changed and refused (FAU_GEN.1).

What a record says: `event`, `stamp`. How it is kept: `record` (one line of the chain), `head`
(where the chain ends, and the key that seals what follows), `writer`, `trail`. What it is for:
`reader`, `verify`, `export`. Where the hypervisor's denials come from: `collect`.
docs/reference/audit.md has the format and what each attacker can do.
"""
