"""The engine of multiple-choice problems: row prices, fixing, a dynamic programme, heuristics."""
