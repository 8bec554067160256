"""Records in the formats of others: Croissant, BibTeX, RIS, CSV, GraphML."""
