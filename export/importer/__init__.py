"""QONNX files that others made, brought into the one form that the lowering reads.

The passes of onnx itself (``onnx.shape_inference``, ``onnx.version_converter``, 1.21) are not used. A Conv with stride
0 ends their process with SIGFPE; a Reshape to ``[-1, 64]`` makes a new unknown of the batch ``N``; a converted
node has no name (Upsample becomes a nameless Resize); and what cannot be converted, such as a BatchNormalization with
``spatial = 0``, is an assertion of the library that names no node. An importer owes its user that name.
``tests/export/test_onnx_own_passes.py`` shows each, so that this can be decided again when onnx changes.
"""

from bitproof.export.importer.import_qonnx import ImportQonnx, normalized
from bitproof.export.importer.input_quantizer import InputQuantizer, find_input_quantizer
from bitproof.export.importer.normalize import normalize
from bitproof.export.importer.prepare_vectors import PrepareVectors

__all__ = ["ImportQonnx", "InputQuantizer", "PrepareVectors", "find_input_quantizer", "normalize", "normalized"]
