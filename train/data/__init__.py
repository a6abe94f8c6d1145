"""Data sets as integer codes: read, checked, split, and written as one artifact."""

from bitproof.train.data.prepare import PrepareData
from bitproof.train.data.splits import Splits

__all__ = ["PrepareData", "Splits"]
