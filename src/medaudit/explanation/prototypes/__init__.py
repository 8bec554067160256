"""What a diffusion model of prototypes has learned: what, where and when (Patronus, arXiv 2503.22782, section 3.3)."""
