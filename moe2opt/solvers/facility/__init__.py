"""The engine of facility problems: cuts, Lagrangian bounds, reductions and heuristics."""
