"""The way from QONNX to integers: the integer model, its proofs, and the packed-int8 ONNX writer."""
