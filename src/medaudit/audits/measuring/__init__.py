"""From the files of cases to numbers: one case, and a cohort of them, streamed and resumable."""
