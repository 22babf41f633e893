"""Drivers of hypervisors: Xen itself, and a model of it for tests and what-if."""
