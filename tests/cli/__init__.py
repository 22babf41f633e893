"""Tests of shype.cli."""
