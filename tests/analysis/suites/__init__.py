"""Tests of `shype.analysis.suites`."""
