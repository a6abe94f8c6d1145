"""The integer model as packed-int8 ONNX for onnxruntime: exact operators alone, two or more weights to a byte."""

from bitproof.export.onnx_int8.executor import OnnxInt8Executor
from bitproof.export.onnx_int8.fault import flip_weight_bit
from bitproof.export.onnx_int8.writer import WriteOnnxInt8, build

__all__ = ["OnnxInt8Executor", "WriteOnnxInt8", "build", "flip_weight_bit"]
