"""QONNX files that others made, brought into the one form that the lowering reads."""

from bitproof.export.importer.import_qonnx import ImportQonnx, normalized
from bitproof.export.importer.input_quantizer import InputQuantizer, find_input_quantizer
from bitproof.export.importer.normalize import normalize
from bitproof.export.importer.prepare_vectors import PrepareVectors

__all__ = ["ImportQonnx", "InputQuantizer", "PrepareVectors", "find_input_quantizer", "normalize", "normalized"]
