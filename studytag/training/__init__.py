"""The training recipe: a best model folder with thresholds out of labelled tables."""
