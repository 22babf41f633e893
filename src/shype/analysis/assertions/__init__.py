"""Assertions, proved over the flows of a policy and over time. `prove.prove` is the entry."""
