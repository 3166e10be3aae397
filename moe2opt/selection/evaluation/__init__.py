"""What plans and baselines score on prompts that nothing was tuned on."""
