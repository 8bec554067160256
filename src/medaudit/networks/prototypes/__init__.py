"""Patch prototypes that condition a diffusion model (Patronus, arXiv 2503.22782)."""
