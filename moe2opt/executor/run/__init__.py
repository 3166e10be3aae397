"""Run the experts of a plan from where they lie, and note what it takes."""
