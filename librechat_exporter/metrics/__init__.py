"""Metrics: their definition, the guard that bounds their labels, and their samples."""
