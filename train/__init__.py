"""Quantization-aware training with Brevitas and zeroth-order estimators."""
