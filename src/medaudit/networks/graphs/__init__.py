"""Graphs as dense batches: equivariant layers, variational autoencoders and classifiers (arXiv 2501.08850).

Import from the files: ``batch`` for the tensors, ``strong`` and ``pegvae`` for the two autoencoders.
"""
