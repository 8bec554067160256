"""Graphs out of files, or out of nothing: molecules, connectomes, simulated vessels, cells and airways."""
