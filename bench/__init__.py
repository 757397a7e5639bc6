"""Benchmarks: how good, how fast, and what each choice gives. See README.md."""
