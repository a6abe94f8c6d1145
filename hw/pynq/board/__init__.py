"""The files that run on a board as they are: Python 3.10 with pynq and numpy, and nothing of this project."""
