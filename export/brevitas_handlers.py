"""The handlers that write Brevitas' quantizers to QONNX if its own way is not what the network computes.

Imported by the export stage alone, since it needs Brevitas.
"""

from __future__ import annotations

from brevitas.export.onnx.qonnx.function import BrevitasQuantOp
from brevitas.export.onnx.qonnx.handler import BrevitasActQuantProxyHandler
from brevitas.export.onnx.qonnx.manager import QONNXDynamoManager
from torch import nn


class ActivationHandler(BrevitasActQuantProxyHandler):  # type: ignore[misc]  # brevitas is untyped
    """Writes an unsigned activation of 1 bit as a Quant node with codes 0 and 1.

    Brevitas 0.13 writes each quantizer of 1 bit as a BipolarQuant node, whose values are -scale and scale.
    """

    def prepare_for_export(self, module: nn.Module) -> None:
        """Choose the operation for the quantizer *module*."""
        super().prepare_for_export(module)
        if module.is_quant_enabled and not module.is_signed:
            self.quant_op = BrevitasQuantOp


class QonnxManager(QONNXDynamoManager):  # type: ignore[misc]  # brevitas is untyped
    """Brevitas' exporter with the handler above in the place of its own."""

    handlers = [  # noqa: RUF012  a class attribute of brevitas'
        ActivationHandler if handler is BrevitasActQuantProxyHandler else handler
        for handler in QONNXDynamoManager.handlers
    ]
