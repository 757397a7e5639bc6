"""Scores and decision thresholds, shared by training, export and `studytag evaluate`."""
