"""How unsure a classifier is of each case, by many methods, and how unlike its training data a case is.

Import from the files: the post-hoc scores need numpy alone, the methods that run a net need torch.
"""
