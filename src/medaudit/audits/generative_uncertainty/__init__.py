"""Does a generator know when it does not know? SLUG beside every other score: errors, groups, foreign content.

The methods of "Bayesian generative models can flag performance loss, bias, and out-of-distribution image content"
(arXiv 2503.17477), as far as they could be read; what is ours is said.
"""
