"""Scores, calibration and thresholds of arrays; knows no files and no models."""
