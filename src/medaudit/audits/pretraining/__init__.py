"""Is it worth pretraining one's own model on one's own unlabelled images? (arXiv 2506.19552)."""
