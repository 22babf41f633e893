"""The agent on an enforcing host. Standard library only: it is in the trusted computing base."""
