"""Simple rules that people use today, judged by the same figures as the plan."""
