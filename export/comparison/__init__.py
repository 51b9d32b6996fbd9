"""Finished runs side by side, and the Pareto front of them."""

from export.comparison.writing import FILES, write_comparison

__all__ = ["FILES", "write_comparison"]
