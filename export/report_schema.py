"""The keys of `report.json`, which other programs read."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict, cast, get_args, get_origin, get_type_hints, is_typeddict


class DenseResult(TypedDict):
    """The dense network; `accuracy` is a fraction of the test set, `flops` of its prunable kernels for an image.

    Where the report has a `metric`, every `accuracy` is the mean of that instead.
    """

    accuracy: float
    acc_top1: NotRequired[float]
    acc_top5: NotRequired[float]
    parameters: NotRequired[int]
    flops: NotRequired[int]


class CompressedResult(TypedDict):
    """The compressed network; `sparsity` is the fraction that is zero or gone of the dense one's prunable kernels."""

    accuracy: float
    acc_top1: NotRequired[float]
    acc_top5: NotRequired[float]
    sparsity: float
    parameters: NotRequired[int]
    flops: NotRequired[int]


class LayerRow(TypedDict):
    """One prunable kernel, as `export.sizes.kernel_table` makes it; ratios are fractions removed."""

    path: str
    shape: list[int]
    parameters: int
    target_ratio: float | None  # None where the weights decide
    sparsity: float
    flops_dense: int
    flops_sparse: int


class SearchResult(TypedDict):
    """Where the ratios came from and what finding them cost, in seconds and in dense training steps."""

    protocol: str
    reward_metric: NotRequired[str]
    rollouts: int
    seconds: float
    seconds_per_rollout: float | None
    best_reward: float | None
    dense_step_seconds: float
    dense_step_equivalents: float


class TrainingResult(TypedDict):
    """The training that ended the run."""

    iterations: int
    seconds: float
    images_per_second: float


class RoundRow(TypedDict):
    """A round of the lottery ticket, 0 the dense training; `sparsity` is the share of all prunable weights removed."""

    round: int
    sparsity: float
    accuracy: float
    validation_accuracy: float
    seconds: float


class Distillation(TypedDict):
    """What the compressed network learned from beside the labels."""

    teacher: str
    loss_weight: float
    temperature: float


class Sizes(TypedDict):
    """Bytes of the compressed network, as `export.sizes.model_sizes` counts them; more keys may follow."""

    dense_bytes: int
    sparse_bytes: int
    gzip_bytes: int


class Milliseconds(TypedDict):
    """Latency of one example on this machine: median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float


class ExportRow(TypedDict):
    """One exported file, as its own runtime read and ran it.

    One that its runtime refused has only `format`, `title` and `refused`, the reason.
    """

    format: str  # as `--export_formats` names it: "litert-sparse"
    title: str  # "LiteRT, sparse float32"
    refused: NotRequired[str]
    file: NotRequired[str]  # below the run directory; a folder for a SavedModel
    bytes: NotRequired[int]
    gzip_bytes: NotRequired[int]
    nonzero_weights: NotRequired[int]  # of all kernels, as this format stores them
    ideal_bytes: NotRequired[int]  # of the weights as this format stores them, see export.sizes.ideal_bytes
    accuracy: NotRequired[float]
    agreement: NotRequired[float | None]  # share of examples with the model's own prediction; None of a regression
    largest_difference: NotRequired[float]  # of any output from the model's own
    one_thread: NotRequired[Milliseconds | None]  # None where it is not a format to run: such as model.trim.npz
    all_threads: NotRequired[Milliseconds | None]
    peak_memory_bytes: NotRequired[int | None]


class ExportLayer(TypedDict):
    """What one kernel of the compressed network takes, stored in each way, in bytes."""

    path: str
    parameters: int
    nonzero: int
    dense_bytes: int
    bitmap_bytes: int
    ideal_bytes: dict[str, int]  # by the kind of values: "float32", "float16", "int8", "codebook-256", "codebook-16"


class Exports(TypedDict):
    """The files of a finished run: how they were checked, and each of them beside the dense network as LiteRT."""

    model_digest: str  # SHA-256 of the weights they were made from
    images: int  # of the evaluation set, which each was run over
    most_images: NotRequired[int]  # as many would have been
    machine: str
    threads: int  # of "all threads"
    seconds: float
    dense: ExportRow
    formats: list[ExportRow]
    layers: list[ExportLayer]


class Stage(TypedDict):
    """One stage of the run and its wall time."""

    name: str
    seconds: float


class Report(TypedDict):
    """Everything in `report.json`. A run that did not compress, search or train has null there."""

    model: str
    dataset: str
    data_title: str
    learner: str
    seed: int
    versions: dict[str, str]
    dense: DenseResult
    compressed: CompressedResult | None
    layers: list[LayerRow]
    search: SearchResult | None
    training: TrainingResult | None
    sizes: Sizes
    stages: list[Stage]
    rounds: NotRequired[list[RoundRow]]
    exports: NotRequired[Exports]
    distillation: NotRequired[Distillation]
    notes: NotRequired[list[str]]
    metric: NotRequired[str]  # what is called accuracy here, where it is none
    skipped_images: NotRequired[list[str]]


PARTS = {
    "dense": DenseResult,
    "compressed": CompressedResult,
    "search": SearchResult,
    "training": TrainingResult,
    "sizes": Sizes,
    "distillation": Distillation,
    "exports": Exports,
}
LIST_PARTS = {"layers": LayerRow, "stages": Stage, "rounds": RoundRow}
LARGEST = 1e30  # of what a report tells nothing comes near; sums and differences of such numbers are still finite
ABSENT_PARTS: dict[str, Any] = {"compressed": None, "search": None, "training": None, "layers": []}


def complete_report(report: Mapping[str, Any]) -> Report:
    """`report` with null (an empty list for `layers`) for what the run did not do.

    Raises:
        ValueError: other keys of `Report` are missing; the message names them all.
    """
    complete = {**report, **{part: value for part, value in ABSENT_PARTS.items() if part not in report}}
    missing = _missing(complete, Report, "")
    for part, part_type in PARTS.items():
        if complete.get(part) is not None:
            missing += _missing(complete[part], part_type, f"{part}.")
    for part, row_type in LIST_PARTS.items():
        for i, row in enumerate(complete.get(part, ())):
            missing += _missing(row, row_type, f"{part}[{i}].")
    if missing:
        raise ValueError(f"A report must have the keys {', '.join(missing)}")
    return cast(Report, complete)


def whole_report(value: Mapping[str, Any]) -> Report:
    """`value`, read from a file and so perhaps anything, as `complete_report` would have it.

    Raises:
        ValueError: it is no whole report; the message says what is wrong with it.
    """
    complete = {**value, **{part: absent for part, absent in ABSENT_PARTS.items() if part not in value}}
    check_types(complete, Report)
    return cast(Report, complete)


def check_types(value: Any, wanted: Any) -> None:
    """Raises ValueError for the first thing in `value` that is missing or not as `wanted`, one of the types above."""
    for place, sentence in _wrong(value, wanted, ""):
        raise ValueError(f"{place or 'it'} {sentence}")


def _wrong(value: Any, wanted: Any, place: str) -> Iterator[tuple[str, str]]:
    """The place and what must be there, of each thing in `value` that is wrong."""
    if type(None) in (kinds := get_args(wanted)):
        if value is not None:
            yield from _wrong(value, kinds[0], place)
    elif isinstance(value, dict) and is_typeddict(wanted):
        hints, within = _hints_of(wanted), f"{place}." if place else ""
        for key in sorted(wanted.__required_keys__ - value.keys()):
            yield within + key, "is missing"
        for key in hints.keys() & value.keys():
            yield from _wrong(value[key], hints[key], within + key)
    elif isinstance(value, dict) and get_origin(wanted) is dict:
        for key, item in value.items():
            yield from _wrong(item, kinds[1], f"{place}.{key}")
    elif isinstance(value, list) and get_origin(wanted) is list:
        for number, item in enumerate(value):
            yield from _wrong(item, kinds[0], f"{place}[{number}]")
    elif sentence := _wrong_plain(value, wanted):
        yield place, f"must be {sentence}. Received: {value!r:.100}"


def _wrong_plain(value: Any, wanted: Any) -> str:
    """What a text or number must be; nothing where it is that."""
    if wanted is str:
        return "" if isinstance(value, str) else "text"
    if wanted not in (int, float):
        return "a list" if get_origin(wanted) is list else "names and values"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "a number"
    if not abs(value) <= LARGEST:
        return f"at most {LARGEST:g}"
    return "a whole number" if wanted is int and value != int(value) else ""


_hints_of = functools.cache(get_type_hints)


def _missing(value: Mapping[str, Any], part_type: Any, prefix: str) -> list[str]:
    return sorted(prefix + key for key in part_type.__required_keys__ if key not in value)
