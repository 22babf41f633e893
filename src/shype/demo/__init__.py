"""The demonstration: one table of attempts on a real hypervisor, each checked against the policy."""
