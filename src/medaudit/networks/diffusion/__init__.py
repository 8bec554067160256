"""Diffusion: schedules, nets, samplers and exact inversion, in plain torch."""
