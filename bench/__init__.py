"""Benchmarks: ratios against a peer in the same run, never times of another machine."""
