"""Run models for real with torch: what a plan promises, measured."""
