"""Benchmarks: `make bench` runs them and leaves one dated JSON in bench/results/."""
