"""From the numbers of cases to findings: groups and what is compared of them, outcomes, drafts, verdicts."""
