"""Tests of shype.base."""
