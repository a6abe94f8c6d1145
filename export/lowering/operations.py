"""Every operation of a graph that can be lowered, by its name: to add one, write it in its family's file, list it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from bitproof.export.importer.domains import SYNONYMS
from bitproof.export.importer.graph import GENERAL
from bitproof.export.lowering import (
    curves,
    elementwise,
    heads,
    joins,
    layout,
    linear_quantizers,
    pools,
    products,
    quantizers,
    staircases,
    upsample,
)
from bitproof.export.lowering.graph import Lowering
from bitproof.export.lowering.known import Known, Rounded

Lowerer = Callable[[Lowering, onnx.NodeProto], Known | Rounded]

STANDARD_DOMAINS = ("", "ai.onnx")
QONNX_DOMAINS = (*STANDARD_DOMAINS, GENERAL, *SYNONYMS)
QONNX_OPERATIONS = frozenset({"Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold", "QuantAvgPool2d"})
"""The operations of :data:`OPERATIONS` that are not standard ones; the same name in another domain is another thing."""

HARDWARE = "finn.custom_op.fpgadataflow"
"""Begins the domains of FINN's hardware layers."""
OF_INTEGER_TENSORS = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QAttention", "QGemm"})
"""Operations of integer tensors in files of onnxruntime, beside those whose names begin with QLinear."""


def hint_on(node: onnx.NodeProto) -> str | None:
    """Return what to do about *node*, of a family that other tools write in the place of what is supported, or None."""
    if node.domain.startswith(HARDWARE):
        return (
            "is a hardware layer of FINN; import the file as it is before FINN's conversion to hardware layers: "
            "the QONNX file, or the streamlined one of MultiThreshold and MatMul"
        )
    if node.op_type in OF_INTEGER_TENSORS or node.op_type.startswith("QLinear"):
        return (
            "calculates with integer tensors (QOperator format, or dynamic quantization); write the file with "
            "QuantizeLinear and DequantizeLinear: quantize_static(..., quant_format=QuantFormat.QDQ)"
        )
    return None


ON_INTEGERS = frozenset({"Clip", "DequantizeLinear"})
"""What may take the integers of a QuantizeLinear."""

OPERATIONS: Mapping[str, Lowerer] = {
    "Quant": quantizers.quant,
    "IntQuant": quantizers.quant,
    "BipolarQuant": quantizers.bipolar_quant,
    "QuantizeLinear": linear_quantizers.quantize_linear,
    "DequantizeLinear": linear_quantizers.dequantize_linear,
    "Trunc": staircases.trunc,
    "MultiThreshold": staircases.multi_threshold,
    "MatMul": products.matmul,
    "Gemm": products.gemm,
    "Conv": products.conv,
    "BatchNormalization": elementwise.batch_normalization,
    "Mul": elementwise.mul,
    "Div": elementwise.div,
    "Add": elementwise.add,
    "Sub": elementwise.sub,
    "Neg": elementwise.neg,
    "Relu": elementwise.relu,
    "Clip": elementwise.clip,
    "LeakyRelu": curves.leaky_relu,
    "PRelu": curves.prelu,
    "HardSigmoid": curves.hard_sigmoid,
    "Sign": curves.sign,
    "Concat": joins.concat,
    "MaxPool": pools.max_pool,
    "GlobalMaxPool": pools.global_max_pool,
    "AveragePool": pools.average_pool,
    "GlobalAveragePool": pools.global_average_pool,
    "ReduceMean": pools.reduce_mean,
    "QuantAvgPool2d": pools.quant_avg_pool,
    "Reshape": layout.reshape,
    "Flatten": layout.flatten,
    "Transpose": layout.transpose,
    "Squeeze": layout.squeeze,
    "Unsqueeze": layout.unsqueeze,
    "Pad": layout.pad,
    "Resize": upsample.resize,
    "Identity": layout.identity,
    "Dropout": layout.identity,
    "TopK": heads.top_k,
    "ArgMax": heads.arg_max,
    "Softmax": heads.drop_at_the_end,
    "LogSoftmax": heads.drop_at_the_end,
    "Sigmoid": curves.sigmoid,
    "Tanh": curves.tanh,
}
