"""The studies: each file reads like a methods section; the only place where the rooms meet."""
