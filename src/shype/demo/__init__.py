"""The demonstration: attempts on a real hypervisor, each checked against the policy."""
