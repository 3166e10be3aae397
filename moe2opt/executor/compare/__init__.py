"""What a plan promised beside what running it took."""
