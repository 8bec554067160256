"""Is a gap the model's, or that of the masks it is measured on? The Biased Ruler of arXiv 2511.00477."""
