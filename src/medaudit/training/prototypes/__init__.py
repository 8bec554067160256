"""Training of a diffusion model that is conditioned on prototypes (Patronus, arXiv 2503.22782)."""
