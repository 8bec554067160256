"""What every study does: cases to numbers, groups, outcomes, drafts to findings, and what makes a run this run."""
