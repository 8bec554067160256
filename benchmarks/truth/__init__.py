"""Planted cause against verdict, for every study over many seeds: the harness of docs/truth.md."""
