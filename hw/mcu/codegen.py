"""The stage that writes an integer model as C99: the network, its packed weights, and the kernels that it needs.

The sources are plain and portable: a user takes the folder into a project (:mod:`bitproof.hw.mcu.package`). What they
compute depends neither on the processor nor on compiler options; the core that they were made for is named in their
banner only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jinja2
import numpy as np

from bitproof.export.integer import KIND, Conv, MultiplyShift, hull, load
from bitproof.hw.mcu.activation import PlannedActivation
from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.cores import CoreName
from bitproof.hw.mcu.forms import Form
from bitproof.hw.mcu.layout import laid_out
from bitproof.hw.mcu.manifest import OUTSIDE, ActivationEntry, Manifest, ProductEntry, ValueEntry
from bitproof.hw.mcu.memory import require_memory
from bitproof.hw.mcu.package import SOURCES, write_package
from bitproof.hw.mcu.plan import NetworkPlan, finish_of, plan_network
from bitproof.hw.mcu.selftest import FNV_BASIS, FNV_PRIME, INCREMENT, MULTIPLIER, SPREAD, SelfTest, self_test_of
from bitproof.hw.mcu.step_entries import place_of, step_entries
from bitproof.hw.mcu.steps import (
    PlannedJoin,
    PlannedMaxPool,
    PlannedMove,
    PlannedProduct,
    PlannedSelect,
    PlannedStep,
    PlannedSum,
    PlannedSumPool,
)
from bitproof.hw.mcu.storage import OUTPUT, Stored
from bitproof.hw.mcu.weight_layout import DepthwiseLayout, LayoutKind, WeightLayout
from bitproof.pipeline import Artifact, Stage, StageContext
from bitproof.pipeline.toolchain import distribution_version

HERE = Path(__file__).parent
KERNEL_HEADERS = ("bitproof_kernels.h", "bitproof_lanes.h", "bitproof_platform.h")
"""Of what the kernels take, in every network."""
PRIVATE_HEADERS: Mapping[LayoutKind, frozenset[str]] = {
    "binary": frozenset(("bitproof_binary.h", "bitproof_blocks.h")),
    "u1": frozenset(("bitproof_blocks.h", "bitproof_bits.h")),
    "ternary": frozenset(("bitproof_blocks.h", "bitproof_ternary.h")),
    **dict.fromkeys(("u2", "u4", "u8"), frozenset(("bitproof_blocks.h", "bitproof_fields.h"))),
}
"""Private to the kernels of a layout."""
KINDS: Mapping[type[PlannedStep], str] = {
    PlannedProduct: "product",
    PlannedSumPool: "sum-pool",
    PlannedMaxPool: "max-pool",
    PlannedSum: "sum",
    PlannedJoin: "join",
    PlannedMove: "move",
    PlannedSelect: "select",
}
"""What the templates call a step."""
FILE_OF_FORM: Mapping[Form, str] = {
    "pair": "bitproof_convolve",
    "square": "bitproof_squares",
    "depthwise": "bitproof_depthwise",
}
"""What walks over the windows of a convolution, by what it multiplies at once."""
NETWORK_FILES = {
    "{}.h": "network.h.j2",
    "{}.c": "network.c.j2",
    "{}_layers.h": "layers.h.j2",
    "{}_weights.c": "weights.c.j2",
    "{}_selftest.h": "selftest.h.j2",
    "{}_selftest.c": "selftest.c.j2",
}
INT32_MIN = -(1 << 31)


@dataclass(frozen=True)
class GenerateC(Stage):
    """Write the C sources of an integer model.

    Attributes:
        core: the processor that they are for.
        flash_bytes: flash that firmware of them may take; None: what the emulated board of *core* has.
        ram_bytes: RAM likewise.
        prefix: what the names in C and of the files start with; None: what the name of the model gives.
    """

    core: CoreName = "cortex-m4"
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    prefix: str | None = None

    name: ClassVar[str] = "c"
    consumes: ClassVar[str] = KIND
    produces: ClassVar[str] = "c-sources"
    distributions: ClassVar[tuple[str, ...]] = ("jinja2", "numpy")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write the sources and the kernels into ``src``, what describes them to build systems, and ``manifest.json``.

        Raises:
            StageError: a layer cannot be carried out with codes of a byte and 32-bit accumulators.
            TooLargeError: firmware of them would not fit the memory.
        """
        model = load(source.path)
        require_memory(model, self.core, self.flash_bytes, self.ram_bytes)
        write_sources(
            plan_network(model, self.prefix),
            ctx.workdir,
            model_sha256=source.sha256,
            core=self.core,
            options=self._options(),
        )
        return {}

    def _options(self) -> str:
        """Return the options beside the core as a target's spec has them."""
        options = (("flash", self.flash_bytes), ("ram", self.ram_bytes), ("prefix", self.prefix))
        return "".join(f", {name}={value}" for name, value in options if value is not None)


def write_sources(plan: NetworkPlan, folder: Path, *, model_sha256: str, core: CoreName, options: str = "") -> Manifest:
    """Write the package of *plan* and its manifest into the existing *folder*; *options* end the target's spec."""
    generator = f"bitproof {distribution_version('bitproof') or 'unknown'}"
    target = f"c{{core={core}{options}}}"
    banner = f"/*\n * Generated by {generator}.\n * model: {model_sha256}\n * target: {target}\n */"
    environment = make_environment()
    sources = folder / SOURCES
    sources.mkdir()
    names = []
    products = tuple(_product_entry(product, plan, i) for i, product in enumerate(plan.products))
    values = _template_values(plan, banner, self_test_of(plan, products))
    for pattern, template in NETWORK_FILES.items():
        name = pattern.format(plan.prefix)
        (sources / name).write_text(laid_out(environment.get_template(template).render(values)))
        names.append(name)
    for name in _kernel_files(plan):
        (sources / name).write_text((HERE / "kernels" / name).read_text())
        names.append(name)
    write_package(environment, folder, prefix=plan.prefix, banner=banner, generator=generator, sources=names)
    manifest = Manifest(
        generator=generator,
        target=target,
        core=core,
        prefix=plan.prefix,
        model_sha256=model_sha256,
        input=_value_entry(plan.input),
        signed_input=plan.signed_input,
        output=_value_entry(plan.output),
        arena_bytes=plan.arena_bytes,
        values_bytes=plan.storage.size_bytes,
        values_bound_bytes=plan.storage.lower_bound_bytes,
        sources=tuple(sorted(names)),
        steps=step_entries(plan),
        products=products,
        activations=tuple(_activation_entry(planned) for planned in plan.activations),
        values=tuple(_value_entry(step.makes) for step in plan.steps),
    )
    manifest.save(folder)
    return manifest


def _template_values(plan: NetworkPlan, banner: str, test: SelfTest) -> dict[str, object]:
    codes, output = plan.input.bytes, plan.output
    steps = plan.steps
    rescalings = [finish.rescaling for _, finish in plan.finishes if finish.rescaling is not None]
    joins = [step for step in steps if isinstance(step, PlannedJoin)]
    finishing = [step for step in steps if finish_of(step) is not None]
    private = {"bitproof_lanes.h", "bitproof_pairs.h", "bitproof_rows.h", "bitproof_platform.h"}
    private = private.union({"bitproof_depthwise_fields.h"}, *PRIVATE_HEADERS.values())
    return {
        "banner": banner,
        "p": plan.prefix,
        "P": plan.prefix.upper(),
        "plan": plan,
        "headers": [name for name in _kernel_files(plan) if name.endswith(".h") and name not in private],
        "inputs": plan.model.inputs,
        "outputs": plan.model.outputs,
        "input": codes,
        "is_image": plan.input.positions > 1 and plan.input.channels > 1,
        "input_sizes": plan.input.shape[1:],
        "input_channels": plan.input.channels,
        "signed_input": plan.signed_input,
        "input_type": "int8_t" if plan.signed_input else "uint8_t",
        "input_checks": _input_checks(codes),
        "input_byte": _byte_of("input[i]", codes),
        "input_rule": _byte_of("c", codes),
        "input_scale": plan.model.input_scale,
        "output_scale": None if plan.model.output_codings else plan.model.output_scale,
        "code_of": _code_of,
        "spread": _spread,
        "largest_input": codes.count - 1,
        "output_positions": output.positions,
        "output_channels": output.channels,
        "output_codes": output.codes,
        "output_code": None if output.codes is None else _code_of("byte", output.codes),
        "output_is_direct": output.place == OUTPUT,
        "output_range": plan.outputs,
        "macs": sum(product.macs for product in plan.products),
        "steps": steps,
        "products": plan.products,
        "finishing": finishing,
        "activations": plan.activations,
        "rescalings": rescalings,
        "sums": [step for step in steps if isinstance(step, PlannedSum)],
        "moves": [step for step in steps if isinstance(step, PlannedMove)],
        "recodings": [codes for join in joins for codes in join.recodes if isinstance(codes, tuple)],
        "uses_sums": any(step.sums for step in steps),
        "kind_of": lambda step: KINDS[type(step)],
        "finish_of": lambda step: place_of(finishing, step),
        "number_of": place_of,
        "direct": lambda step: step.is_direct,
        "is_table": lambda codes: isinstance(codes, tuple),
        "first_channel": lambda join, place: sum(taken.channels for taken in join.takes[:place]),
        "layout_name": _layout_name,
        "constant": lambda number: f"{number % (1 << 32)}u",
        "reach_of": lambda activation: hull(activation.reachable),
        "arena_bytes": plan.arena_bytes,
        "test": test,
        "input_code": _code_of("byte", codes),
        "input_drawn": _code_of("number", test.input_bytes),
        "multiplier": MULTIPLIER,
        "increment": INCREMENT,
        "spread_of_seeds": SPREAD,
        "fnv_basis": FNV_BASIS,
        "fnv_prime": FNV_PRIME,
    }


def _layout_name(product: PlannedProduct) -> str:
    layout = product.layout
    return f"{layout.kind}, {layout.bits} bits" if isinstance(layout, DepthwiseLayout) else layout.kind


def _input_checks(codes: ByteCodes) -> list[str]:
    """Return the conditions under which ``input[i]`` is no code; none that no int8_t can meet."""
    checks = []
    if codes.codes[0] > -128:
        checks.append(f"input[i] < {codes.codes[0]}")
    if codes.codes[-1] < 127:
        checks.append(f"input[i] > {codes.codes[-1]}")
    if codes.step > 1:
        checks.append(f"({_moved('input[i]', -codes.lowest)}) % {codes.step} != 0")
    return checks


def _byte_of(code: str, codes: ByteCodes) -> str:
    """Return the C expression of the byte that stands for *code*."""
    number = _moved(code, -codes.lowest)
    return number if codes.step == 1 else f"({number}) / {codes.step}"


def _code_of(byte: str, codes: ByteCodes) -> str:
    """Return the C expression of the code that *byte* stands for."""
    return _moved(byte if codes.step == 1 else f"{codes.step} * {byte}", codes.lowest)


def _spread(codes: ByteCodes) -> str:
    """Say which codes there are."""
    first, last = codes.codes[0], codes.codes[-1]
    if codes.count == 2:
        return f"each {first} or {last}"
    return f"each {first} to {last}" + (f" in steps of {codes.step}" if codes.step > 1 else "")


def _moved(value: str, offset: int) -> str:
    return f"{value} {'-' if offset < 0 else '+'} {abs(offset)}" if offset else value


def _kernel_files(plan: NetworkPlan) -> list[str]:
    """Return the files of kernels that *plan* needs."""
    files = set(KERNEL_HEADERS)
    for product in plan.products:
        files.add(f"bitproof_{product.kernel_name}.c")
        if isinstance(product.layout, WeightLayout) and product.form in ("matrix", "pair"):
            files |= PRIVATE_HEADERS[product.layout.kind]
            if product.form == "pair":
                files |= {"bitproof_pairs.h", *(["bitproof_rows.h"] if product.layout.rows_per_word == 2 else [])}
        elif product.form == "depthwise":
            files.add("bitproof_depthwise_fields.h")
    files |= {f"bitproof_requantize_{planned.kernel}.c" for planned in plan.activations}
    files |= {f"{name}{end}" for name in _pairs(plan) for end in (".c", ".h")}
    return sorted(files)


def _pairs(plan: NetworkPlan) -> Iterator[str]:
    """Yield the names of kernels that have a header of their own."""
    if any(not product.takes[0].bytes.as_they_are for product in plan.products):
        yield "bitproof_decode"
    forms = {product.form for product in plan.products}
    yield from (name for form, name in FILE_OF_FORM.items() if form in forms)
    yield from ("bitproof_windows", "bitproof_values")


def _value_entry(stored: Stored) -> ValueEntry:
    at = stored.place.removeprefix("arena + ")
    return ValueEntry(
        name=stored.name,
        shape=stored.shape,
        order=stored.order,
        codes=stored.codes,
        offset=int(at) if at.isdigit() else OUTSIDE,
    )


def _product_entry(product: PlannedProduct, plan: NetworkPlan, number: int) -> ProductEntry:
    layout, node, columns = product.layout, product.node, product.columns
    patch = None
    if isinstance(node, Conv):
        patch = (node.groups, node.channels // node.groups, *product.kernel)
    return ProductEntry(
        name=node.name,
        inputs=product.inputs,
        outputs=node.outputs,
        patch=patch,
        form=product.form,
        columns=None if columns is None or (np.diff(columns) == 1).all() else tuple(columns.tolist()),
        bits_per_weight=layout.bits,
        layout=layout.kind,
        zero_point=layout.zero_point if isinstance(layout, WeightLayout) else 0,
        step=layout.step if isinstance(layout, WeightLayout) else 1,
        codes=product.takes[0].bytes,
        macs=product.macs,
        weight_bytes=product.words.nbytes,
        symbol=f"{plan.prefix}_weights_{number}",
    )


def _activation_entry(planned: PlannedActivation) -> ActivationEntry:
    node, constants = planned.node, planned.constants
    return ActivationEntry(
        name=node.name,
        inputs=node.channels,
        outputs=node.channels,
        method=planned.method,
        shift=None if constants is None else constants.shift,
        levels=node.levels,
        codes=planned.codes,
        table_bytes=planned.table_bytes,
    )


def make_environment() -> jinja2.Environment:
    """Return the templates of the back-end, with filters that write arrays of constants."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=jinja2.select_autoescape(default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["words"] = lambda words: _lines((f"0x{word:08X}u" for word in words), per_line=8)
    environment.filters["bytes"] = lambda values: _lines((f"{value}u" for value in values), per_line=16)
    environment.filters["integers"] = lambda values: _lines(map(_int32, values), per_line=8)
    environment.filters["wide_integers"] = lambda values: _lines(map(_int64, values), per_line=4)
    environment.filters["affines"] = _affines
    return environment


def _affines(constants: MultiplyShift) -> str:
    pairs = zip(constants.multiplier.tolist(), constants.offset.tolist(), strict=True)
    return _lines((f"{{{_int32(multiplier)}, {_int32(offset)}}}" for multiplier, offset in pairs), per_line=4)


def _int32(value: int) -> str:
    """Return *value* as a C constant; the least int32 has no literal of its own."""
    return f"({INT32_MIN + 1} - 1)" if value == INT32_MIN else str(value)


def _int64(value: int) -> str:
    """Return *value* as a C constant; the least int64 has no literal of its own, and no constant needs it."""
    return f"INT64_C({value})"


def _lines(items: Iterable[str], *, per_line: int) -> str:
    texts = list(items)
    lines = (", ".join(texts[start : start + per_line]) for start in range(0, len(texts), per_line))
    return "\n".join(f"    {line}," for line in lines)
