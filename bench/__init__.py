"""Benchmarks: instructions counted in the lab, ratios against baselines of the same run."""
