"""Putting shype on a real host so that it can be taken off again, and cannot brick it."""
