"""The compiler for Xen's XSM/FLASK: tables, encoding, rules, CIL, binary, validation."""
