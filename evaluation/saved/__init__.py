"""Readers of saved ground truth and predictions, a module per format; `formats` has their table."""
