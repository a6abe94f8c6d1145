"""The QONNX stage: the trained Brevitas network as one self-contained ONNX file.

Brevitas 0.13 exports through torch's dynamo exporter, which fixes the batch size, lists weights as graph inputs, writes
weights beside the file and leaves stack traces with absolute paths in it. All four are undone, so the file is portable
and depends on the network alone. Brevitas also writes every quantizer of 1 bit as one to -1 and 1, which is wrong for
unsigned activations; :mod:`bitproof.export.brevitas_handlers` puts that right.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from bitproof.pipeline import Artifact, InputError, Stage, StageContext, StageError
from bitproof.pipeline.user_files import causes_of, users_line

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = "model.onnx"
KIND = "qonnx"
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class ExportQonnx(Stage):
    """Export a checkpoint to QONNX (Pappalardo et al., QONNX: Representing Arbitrary-Precision QNNs, 2022)."""

    load: Callable[[Artifact], tuple[nn.Module, int]]
    """Returns the trained network of a checkpoint and its number of inputs: who trains knows how."""

    name: ClassVar[str] = "export"
    consumes: ClassVar[str] = "checkpoint"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("torch", "brevitas", "onnx", "qonnx")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write ``model.onnx``."""
        import torch

        network, inputs = self.load(source)
        onnx.save_model(export_network(network, torch.zeros(1, inputs), ctx.scratch), ctx.workdir / FILE)
        return {}


def export_network(network: nn.Module, example: Tensor, scratch: Path) -> onnx.ModelProto:
    """Export *network*, in evaluation mode on the CPU, on *example*, one sample of its input with the batch first.

    Raises:
        InputError: it cannot be exported; the message names the layer.
        StageError: it has several inputs or outputs, or does not keep the samples of a batch apart.
    """
    raw = scratch / "exported.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals, from its import on
        from bitproof.export.brevitas_handlers import QonnxManager

        try:
            QonnxManager.export(network, args=example, export_path=str(raw), dynamo=True, verbose=False)
        except Exception as error:  # it runs the network, which may raise anything
            raise refusal(error, network) from error
    return clean(onnx.load(raw))


def refusal(error: BaseException, network: nn.Module) -> InputError:
    """Return what an *error* of the exporter says of *network*, a torch module: layer, text, and a user's line."""
    names = {id(module): name for name, module in network.named_modules() if name}
    causes = causes_of(error)
    where, said = "its forward pass", users_line(error) or f"{type(causes[0]).__name__}: {causes[0]}"
    for cause in causes:
        selves = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(cause.__traceback__)]
        layers = [module for module in selves if id(module) in names]
        if layers:
            where = f"its layer {names[id(layers[-1])]} ({type(layers[-1]).__name__})"
            break
    return InputError(
        f"the network cannot be exported to QONNX: {where} raised {said}. In an export the layers of brevitas take and "
        "give plain tensors, which have no .value and no .scale"
    )


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return *model* with weights inside, no weight among its inputs, a free batch size and no build traces."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise StageError(
            f"the exported network has {len(inputs)} inputs and {len(graph.output)} outputs; one each is supported"
        )
    del graph.input[:]
    graph.input.extend(inputs)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "N"
        del value.metadata_props[:]
    _free_batch_of_reshapes(graph)
    del graph.value_info[:]
    del model.functions[:]
    for holder in (model, graph, *graph.node, *graph.initializer):
        del holder.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    graph.doc_string = model.doc_string = ""
    return model


def _free_batch_of_reshapes(graph: onnx.GraphProto) -> None:
    """Let every Reshape keep the batch size of its input, if the exporter wrote the size 1 that it saw.

    Raises:
        StageError: a Reshape does not keep the samples apart.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for name in {node.input[1] for node in graph.node if node.op_type == "Reshape"}:
        shape = numpy_helper.to_array(constants[name]).tolist() if name in constants else []
        if not shape or shape[0] not in (1, -1) or -1 in shape[1:]:
            raise StageError(
                f"a Reshape of the exported network gives shape {shape or name}; it must keep the batch first and give "
                "the other sizes as numbers, as nn.Flatten and nn.Unflatten do"
            )
        kept = np.array([-1, *shape[1:]], dtype=np.int64)
        constants[name].CopyFrom(numpy_helper.from_array(kept, name))


def load_qonnx(path: Path) -> onnx.ModelProto:
    """Read a QONNX file; data outside the file is not followed.

    Raises:
        InputError: it is missing, empty, too large, or not an ONNX file.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a regular file; give an ONNX file")
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise InputError(f"{path} has {size} bytes; an ONNX file of 1 to {MAX_BYTES} bytes is read")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except (OSError, ValueError, DecodeError) as error:
        raise InputError(f"{path} is not a readable ONNX file: {error}") from error
    # Many other files can be read as protocol buffers with fields that nobody knows.
    if not model.graph.node or not model.opset_import:
        raise InputError(f"{path} is not an ONNX file with a network: it holds no nodes or no opset")
    return model
