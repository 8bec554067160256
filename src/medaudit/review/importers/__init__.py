"""Records out of catalogues and files of others. Nothing here writes: what is read is proposed like anything else."""
