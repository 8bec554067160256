"""What has a diffusion model learned, where and when, and is it a shortcut? (Patronus, arXiv 2503.22782)"""
