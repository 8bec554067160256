"""Are the automated labels equally good for everybody? (arXiv 2510.27421) :mod:`study` reads like a methods section."""
