"""The engine of facility problems: cuts, Lagrangian bounds, fixing and heuristics."""
