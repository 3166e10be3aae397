"""Which deployed expert answers a prompt, within a budget of expected energy."""
