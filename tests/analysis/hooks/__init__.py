"""Tests of the audit of Xen's security hooks."""
