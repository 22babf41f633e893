"""Tests on the real hypervisor."""
