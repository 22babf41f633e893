"""A TPM 2.0 for each VM of a label with ``vtpm: true``: swtpm in dom0, bound to VM and label."""
