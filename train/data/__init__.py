"""Data sets as integer codes: read, checked, split, and written as one artifact."""

from train.data.prepare import PrepareData
from train.data.splits import Splits

__all__ = ["PrepareData", "Splits"]
