"""What runs inside the lab's dom0: its init scripts and the agent (standard library only)."""
