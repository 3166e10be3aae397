"""Models in Hugging Face format: their files, their tensors, and a decoder."""
