"""Unit tests of the lab: nothing is booted."""
