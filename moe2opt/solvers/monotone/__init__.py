"""Bounds and heuristics of monotone problems, known by their oracles alone."""
