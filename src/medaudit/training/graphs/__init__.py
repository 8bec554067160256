"""Training autoencoders and classifiers of graphs."""
