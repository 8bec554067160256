"""The demonstration: one simulated dataset goes through the whole loop, step by step, and each says what it found.

:mod:`walk` goes from step to step; :mod:`steps` says what each asks, and what was planted for it to find;
:mod:`page` is the page that walks through them.
"""
