"""Attributions: what is explained, in which units, against which absence, and how it is shared out."""
