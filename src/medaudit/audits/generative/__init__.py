"""Does a generator draw all groups equally well? Errors by group over shares of representation, and who notices.

The questions of "Are generative models fair? A study of racial bias in dermatological image generation" (arXiv
2501.11752); its protocol could not be read, so the protocol is ours.
"""
