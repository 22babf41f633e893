"""What every VM has used, in a record that neither operator nor owner can alter afterwards.

`source` says what is read, `xen` reads it; `account` counts per run of a VM, `record` is one
signed line, `ledger` keeps the chain of them, `sampler` puts them together; `verify` checks,
`report` adds up.  docs/reference/metering.md has the format and what each attacker can do.
"""
