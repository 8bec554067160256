"""The living review: what is known about a dataset, who found it, and where it stands (arXiv 2501.10727)."""
