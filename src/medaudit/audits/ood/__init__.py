"""Which uncertainty, from a model trained on which task, notices which shift, and may it gate a prediction?

System 4: Wong et al. 2025, arXiv 2509.18326. :mod:`run` goes from a cohort to a finished run; :mod:`study` from scores
to findings, whoever made the scores.
"""
