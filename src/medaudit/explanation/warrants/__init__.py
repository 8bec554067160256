"""What must hold of an explanation before a claim may rest on it, as tests that run."""
