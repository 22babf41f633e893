"""Replacing the policy of a host that runs: plan, load, verify, revoke, commit or roll back.

`shype.host.update.update` has the steps; docs/adr/0024-live-updates.md says why they are so.
"""
