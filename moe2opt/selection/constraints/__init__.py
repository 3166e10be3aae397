"""Objectives and constraints: what a deployed set is worth, and what it may cost."""
