"""Runs of llama-bench: read in all of its formats, and written as rows of a profile."""
