"""Measurements, side by side in one run, as ratios with their spread: ``make bench-NAME`` runs ``NAME.py``."""
