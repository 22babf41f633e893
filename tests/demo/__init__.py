"""Tests of shype.demo."""
