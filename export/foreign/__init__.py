"""QONNX files that others made, brought into the one form that the lowering reads."""

from bitproof.export.foreign.import_qonnx import ImportQonnx
from bitproof.export.foreign.input_quantizer import InputQuantizer, find_input_quantizer
from bitproof.export.foreign.normalize import normalize
from bitproof.export.foreign.prepare_vectors import PrepareVectors

__all__ = ["ImportQonnx", "InputQuantizer", "PrepareVectors", "find_input_quantizer", "normalize"]
