"""Tests of `shype.host.verify`."""
