"""What a model has learned, and what an explanation assumes."""
