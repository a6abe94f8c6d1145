"""The configuration of one run: a validated, immutable picture of one YAML file.

Every error names the file, the key, the value, what is allowed and, for an unknown key, the nearest valid one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bitproof.pipeline.target import CheckTargets, TargetSpec, parse_spec

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
"""What a run may be called: the name becomes that of its folder."""

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


ZEROTH_ORDER = ("directions", "delta", "delta_end", "distribution", "shard_directions")
ESTIMATOR_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "ste": (),
    "guided": ("directions", "noise", "beta_min", "delta", "distribution", "shard_directions"),
    "spsa": ZEROTH_ORDER,
    "weighted": (*ZEROTH_ORDER, "alpha", "alpha_end"),
    "bias-corrected": (*ZEROTH_ORDER, "decay"),
    "adaptive": (*ZEROTH_ORDER, "decay"),
}
"""Which options each estimator uses, beside its name and start."""


DATA_SETS = ("fashion-mnist", "mnist", "digits", "cifar-10", "speech-commands", "toyadmos")
AUGMENTED = ("fashion-mnist", "mnist", "cifar-10", "speech-commands")
"""Data sets that have a usual augmentation."""


class Section(BaseModel):
    """A part of the configuration: immutable, no unknown keys, no silent type conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataConfig(Section):
    """Which data set, where it is, and how many training samples are held out for validation."""

    name: str
    """One of DATA_SETS, or ``path/to/file.py:function``, which returns codes and labels."""
    root: Annotated[Path | None, Field(strict=False)] = None
    validation: Annotated[int, Field(ge=1, le=20_000)] | None = None
    """Number of training samples held out; null: one twelfth of them, or the data set's own validation split."""
    augment: bool = False
    """Move (and for cifar-10 mirror) the samples of a training batch at random, as is usual for the data set."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in DATA_SETS and not re.fullmatch(r".+\.py:[A-Za-z_]\w*", name):
            raise ValueError(f"must be one of {', '.join(DATA_SETS)}, or path/to/file.py:function")
        return name

    @model_validator(mode="after")
    def _augmentation_has_an_effect(self) -> DataConfig:
        if self.augment and self.name not in AUGMENTED:
            raise ValueError(
                f"augment = true, but no augmentation is usual for {self.name!r}; it is for {', '.join(AUGMENTED)}"
            )
        return self


FIXED_SHAPES: Mapping[str, tuple[int, int, float]] = {
    "cnv": (9, 8, 1.0),
    "resnet8": (10, 11, 1.0),
    "ds-cnn": (10, 10, 1.0),
    "mobilenet-v1": (28, 28, 0.25),
    "autoencoder": (10, 9, 1.0),
}
"""Built-in networks whose shape is given: their layers with weights, their activation quantizers, their usual width."""


class ModelConfig(Section):
    """The network: a built-in name or ``path/to/file.py:function``, and its bit widths."""

    name: str
    """mlp, cnn, one of FIXED_SHAPES, or ``path/to/file.py:function``, which returns a network."""
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(strict=False, max_length=16)] = ()
    """Output channels of each convolution of a ``cnn``; empty for every other network."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], Field(strict=False, max_length=32)] = (
        64,
        64,
        64,
    )
    """Units of each hidden linear layer of an ``mlp`` or a ``cnn``; a network of FIXED_SHAPES has its own."""
    width: Annotated[float, Field(gt=0, le=4)] | None = None
    """Factor on the channels and hidden units of a network of FIXED_SHAPES; null: that of its reference."""
    weight_bits: int | tuple[int, ...] = 2
    """Bits of the weights, 1 to 8 (1: -1 and 1); a list gives each layer its own, the output layer last."""
    act_bits: int | tuple[int, ...] = 4
    """Bits of the activations, 1 to 8; a list gives each activation its own."""
    input_bits: Annotated[int, Field(ge=1, le=8)] = 8
    """Bits of an input code: the data stage drops the low bits of its 8-bit codes."""
    scale: Literal["power-of-two", "free"] = "power-of-two"
    granularity: Literal["tensor", "channel"] = "tensor"
    """One weight scale per layer, or one per output channel; the output layer has one: its codes are compared."""
    surrogate: Literal["identity", "clipped", "hardtanh", "tanh", "approx-sign"] | None = None
    """What stands for the derivative of rounding weights (of their sign, at 1 bit); null: identity (hardtanh). It
    changes the backward pass alone."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a hidden unit is left out of a training pass."""

    @property
    def weighted_layers(self) -> int:
        """Number of layers with weights."""
        fixed = FIXED_SHAPES.get(self.name)
        return len(self.channels) + len(self.hidden) + 1 if fixed is None else fixed[0]

    @property
    def activations(self) -> int:
        """Number of activation quantizers."""
        fixed = FIXED_SHAPES.get(self.name)
        return len(self.channels) + len(self.hidden) if fixed is None else fixed[1]

    @property
    def width_factor(self) -> float:
        """Factor on the channels and hidden units of a network whose shape is given, 1 for every other."""
        return FIXED_SHAPES.get(self.name, (0, 0, 1.0))[2] if self.width is None else self.width

    @property
    def reconstructs(self) -> bool:
        """The network gives its inputs back instead of naming a class."""
        return self.name == "autoencoder"

    def weight_bits_of(self, layer: int) -> int:
        """Return the bits of the weights of *layer*, counted from 0 at the input."""
        return self.weight_bits if isinstance(self.weight_bits, int) else self.weight_bits[layer]

    def act_bits_of(self, layer: int) -> int:
        """Return the bits of the activation number *layer*, counted from 0 at the input."""
        return self.act_bits if isinstance(self.act_bits, int) else self.act_bits[layer]

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        known = ("mlp", "cnn", *FIXED_SHAPES)
        if name not in known and not re.fullmatch(r".+\.py:[A-Za-z_]\w*", name):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"must be one of {', '.join(known)}, or path/to/file.py:function{hint}")
        return name

    @field_validator("weight_bits", "act_bits", mode="before")
    @classmethod
    def _parse_bits(cls, bits: object) -> object:
        listed = list(bits) if isinstance(bits, list | tuple) else [bits]
        if all(isinstance(entry, int) and not isinstance(entry, bool) and 1 <= entry <= 8 for entry in listed):
            return tuple(listed) if isinstance(bits, list | tuple) else bits
        raise ValueError("must be a whole number from 1 to 8, or a list of such numbers, one per layer")

    @model_validator(mode="after")
    def _layers_fit(self) -> ModelConfig:
        if (self.name == "cnn") is not bool(self.channels):
            raise ValueError(
                f"channels = {list(self.channels)} for name = {self.name!r}; a 'cnn' needs one number a convolution, "
                "such as [16, 32, 32], every other network takes none"
            )
        if self.name in FIXED_SHAPES and self.hidden != type(self).model_fields["hidden"].default:
            raise ValueError(
                f"hidden = {list(self.hidden)} has no effect on {self.name!r}, whose layers are given; leave it out "
                "and set width, a factor on all of them"
            )
        if self.width is not None and self.name not in FIXED_SHAPES:
            raise ValueError(
                f"width = {self.width:g} has no effect on {self.name!r}; it is a factor for {', '.join(FIXED_SHAPES)}"
            )
        if ":" in self.name:
            return self  # a network of the user's has the layers that its function makes
        for key, bits, layers in (
            ("weight_bits", self.weight_bits, self.weighted_layers),
            ("act_bits", self.act_bits, self.activations),
        ):
            if isinstance(bits, tuple) and len(bits) != layers:
                raise ValueError(
                    f"{key} has {len(bits)} entries for {layers} layers; give one per layer, or one number"
                )
        return self


class EstimatorConfig(Section):
    """The gradient estimator, and from which fraction of the steps it replaces the plain straight-through one.

    An option that the chosen estimator does not use is refused, so that nobody believes it had an effect.
    """

    name: Literal["ste", "guided", "spsa", "weighted", "bias-corrected", "adaptive"] = "ste"
    start: Annotated[float, Field(ge=0, le=1)] = 0.8
    directions: Annotated[int, Field(ge=1, le=65_536)] = 1
    noise: Annotated[float, Field(ge=0, le=1)] | None = 0.01
    """guided: (1 - beta) d with d perturbed weights, the power of the noise over that of the guide; it grows linearly
    from 0 to this. null: ``beta_min`` says it."""
    beta_min: Annotated[float, Field(gt=0, le=1)] | None = None
    """guided: in place of ``noise``, the weight of the guide falls linearly from 1 to this; null: ``noise`` says it."""
    delta: Annotated[float, Field(gt=0, le=100)] | None = None
    """Standard deviation of a perturbation in quantization steps; null: what the surrogate gradient implies."""
    delta_end: Annotated[float, Field(gt=0, le=100)] | None = None
    """delta goes geometrically to this over the estimator's phase; null: it stays."""
    distribution: Literal["gaussian", "sphere", "uniform", "rademacher"] | None = None
    """Of the random directions; null: guided what the surrogate implies, the others uniform."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.9999
    """weighted: the weight of the straight-through gradient."""
    alpha_end: Annotated[float, Field(ge=0, le=1)] | None = None
    """alpha goes linearly to this over the estimator's phase; null: it stays."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """bias-corrected, adaptive: of the running means."""
    shard_directions: bool = False
    """On several devices: each measures its share of the directions on its part of the batch, instead of all."""

    @model_validator(mode="before")
    @classmethod
    def _beta_min_stands_for_noise(cls, content: object) -> object:
        if isinstance(content, Mapping) and content.get("name") == "guided" and content.get("beta_min") is not None:
            content = {"noise": None, **content}
        return content

    @model_validator(mode="after")
    def _noise_is_said_once(self) -> EstimatorConfig:
        if self.name == "guided" and (self.noise is None) is (self.beta_min is None):
            raise ValueError(
                f"noise = {self.noise}, beta_min = {self.beta_min}: each says how much noise the directions have; give "
                "one of the two, noise where it is to be the same for every size of network"
            )
        return self

    @model_validator(mode="after")
    def _no_option_without_effect(self) -> EstimatorConfig:
        used = {"name", "start", *ESTIMATOR_OPTIONS[self.name]}
        for key, field in type(self).model_fields.items():
            if key not in used and getattr(self, key) != field.default:
                raise ValueError(
                    f"{key} = {getattr(self, key)!r} has no effect on the estimator {self.name!r}; "
                    f"its options: {', '.join(sorted(used))}"
                )
        return self


class TrainFaults(Section):
    """Random faults of a chip, drawn anew for every training pass."""

    stuck: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the weights that are stuck at plus or minus the largest of their type."""
    offset: Annotated[float, Field(ge=0, le=16)] = 0.0
    """Standard deviation of the offset of a neuron, in activation levels."""


class TrainWrap(Section):
    """Accumulators of so few bits that they would wrap; training is to keep them in range."""

    bits: Annotated[int, Field(ge=7, le=12)]
    penalty: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    """Weight of the penalty beside the cross entropy."""
    margin: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Fraction of the range that costs nothing."""


class TrainConfig(Section):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 12
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 256
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, le=10)] = 0.01
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    """Each trains on its part of the batch; on the CPU a device is a process."""
    precision: Literal[32, "bf16-mixed"] = 32
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many epochs without a better validation accuracy; null: train all epochs.

    The estimator's phase, which begins after the fraction ``estimator.start`` of all epochs, may then never come.
    """
    compile: bool = False
    """Compile the extra forward passes of an estimator: a minute once, then each takes about 0.6 of the time."""
    nudge: bool | Literal["whole-offsets"] = True
    """Move a batch-norm bias a little if a float chain could round a quantization boundary the other way.

    ``whole-offsets``: also move bias and gain to boundaries that a quantized operator with an integer bias can have.
    """
    estimator: EstimatorConfig = EstimatorConfig()
    faults: TrainFaults | None = None
    """Train for chips with faults; null: for a chip without."""
    wrap: TrainWrap | None = None
    """Train for narrow accumulators; null: for accumulators that hold every sum."""

    @model_validator(mode="after")
    def _robust_training_is_straight_through(self) -> TrainConfig:
        for key in ("faults", "wrap"):
            if getattr(self, key) is not None and self.estimator.name != "ste":
                raise ValueError(
                    f"{key} goes with estimator.name = 'ste', not {self.estimator.name!r}: the extra passes of an "
                    "estimator run without faults and would measure another loss"
                )
        return self

    @model_validator(mode="after")
    def _batch_can_be_divided(self) -> TrainConfig:
        if self.batch_size % self.devices or self.batch_size < 2 * self.devices:
            raise ValueError(
                f"batch_size = {self.batch_size} cannot be divided over devices = {self.devices}; "
                "it must be a multiple of devices, at least twice as large"
            )
        return self


class ParityConfig(Section):
    """How many test images each executor is compared on."""

    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000


FloatReferenceGate = Literal["explained", "strict"]
"""What is accepted of a float executor that differs from the integers: what rounding errors explain, or nothing."""


class GateConfig(Section):
    """Largest accepted loss of accuracy, in percentage points; a run that misses one ends with exit code 1."""

    float_vs_quantized: Percent = 2.0
    quantized_vs_target: Percent = 0.0
    float_reference: FloatReferenceGate = "explained"


class BaseConfig(Section):
    """What every run has, wherever its network comes from."""

    name: Annotated[str, Field(pattern=RUN_NAME)]
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    targets: Annotated[tuple[TargetSpec, ...], Field(strict=False)]
    parity: ParityConfig = ParityConfig()

    @field_validator("targets", mode="before")
    @classmethod
    def _parse_targets(cls, specs: object) -> object:
        if not isinstance(specs, list | tuple):
            raise ValueError("must be a list of specs such as 'onnx-int8' or 'c{core=cortex-m4}'")
        return tuple(spec if isinstance(spec, TargetSpec) else parse_spec(spec) for spec in specs)

    @field_validator("targets", mode="after")
    @classmethod
    def _check_targets(cls, specs: tuple[TargetSpec, ...], info: ValidationInfo) -> tuple[TargetSpec, ...]:
        """Let what knows the kinds of targets check them, if the configuration is read with it as the context."""
        check: CheckTargets | None = info.context
        return specs if check is None else check(specs)


class RunConfig(BaseConfig):
    """One run, from data to report."""

    data: DataConfig
    model: ModelConfig
    train: TrainConfig = TrainConfig()
    targets: Annotated[tuple[TargetSpec, ...], Field(strict=False, min_length=1)]
    gates: GateConfig = GateConfig()

    @property
    def labelled(self) -> bool:
        """Samples have classes as labels: the network does not reconstruct them."""
        return not self.model.reconstructs

    @property
    def split(self) -> str:
        """Name of the split of the data set that executors are compared on."""
        return "test"
