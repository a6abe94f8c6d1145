"""Deployment to PYNQ boards: a Vivado project around stitched RTL, a bundle with driver and vectors, and its upload."""
