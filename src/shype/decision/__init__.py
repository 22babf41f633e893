"""The security server: labels in, a Decision out. Pure code, no I/O."""
