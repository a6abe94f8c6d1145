"""QONNX in, integers out: the integer model, its proofs, and the packed-int8 ONNX writer."""
