"""Xen: the FLASK hypercall and xl, both used from dom0."""
