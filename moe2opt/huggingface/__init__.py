"""What a `config.json` says of a model: families by `model_type`, and keys that must be read."""
