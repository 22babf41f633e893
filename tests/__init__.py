"""Tests mirror the tree of src/shype; tests/lab runs on a real hypervisor."""
