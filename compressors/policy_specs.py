"""One policy of a compression schedule as data: which component acts, how, and when."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import pydantic

from compressors.components import Count, Fraction, PositiveCount, When
from compressors.schedule_problems import Source, translated
from utils.errors import InputError

Kind = Literal["pruner", "regularizer", "quantizer", "lr_scheduler", "extension"]
SECTION_OF: dict[Kind, str] = {
    "pruner": "pruners",
    "regularizer": "regularizers",
    "quantizer": "quantizers",
    "lr_scheduler": "lr_schedulers",
    "extension": "extensions",
}


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """The same as the constructor, but for its error.

        Raises:
            InputError: says in plain words what is wrong.
        """
        try:
            return cls.model_validate(given)
        except pydantic.ValidationError as error:
            raise InputError("; ".join(map(Source().spoken, translated(error, given, cls)))) from None


class Timing(_Frozen):
    """The epochs in which a policy acts: a list, or `range(starting_epoch, ending_epoch, frequency)`."""

    epochs: tuple[Count, ...] | None = None
    starting_epoch: Count | None = None
    ending_epoch: PositiveCount | None = None
    frequency: PositiveCount | None = None

    @pydantic.field_validator("epochs")
    @classmethod
    def _sort(cls, epochs: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if epochs is not None and (not epochs or len(set(epochs)) < len(epochs)):
            raise ValueError("must be at least one epoch, each given once")
        return epochs and tuple(sorted(epochs))

    @pydantic.field_validator("ending_epoch")
    @classmethod
    def _check_end(cls, end: int | None, info: pydantic.ValidationInfo) -> int | None:
        start = info.data.get("starting_epoch")
        if start is not None and end is not None and end <= start:
            raise ValueError(f"must be greater than starting_epoch, {start}: it is exclusive")
        return end

    @pydantic.field_validator("frequency")
    @classmethod
    def _check_frequency(cls, frequency: int | None, info: pydantic.ValidationInfo) -> int | None:
        start, end = info.data.get("starting_epoch"), info.data.get("ending_epoch")
        if not (start is None or end is None or frequency is None) and frequency > end - start:
            raise ValueError(f"must be at most ending_epoch - starting_epoch, {end - start}")
        return frequency

    @pydantic.model_validator(mode="after")
    def _check_choice(self) -> Self:
        given = [name for name in ("starting_epoch", "ending_epoch", "frequency") if getattr(self, name) is not None]
        if self.epochs is not None and given:
            raise ValueError(f"must have either epochs or {', '.join(given)}, not both")
        if self.epochs is None and (self.starting_epoch is None or self.ending_epoch is None):
            raise ValueError("must have epochs, or else starting_epoch and ending_epoch")
        return self

    @property
    def start(self) -> int:
        """The first epoch of the range."""
        if self.epochs is not None:
            return self.epochs[0]
        assert self.starting_epoch is not None
        return self.starting_epoch

    @property
    def end(self) -> int:
        """The epoch after the range."""
        if self.epochs is not None:
            return self.epochs[-1] + 1
        assert self.ending_epoch is not None
        return self.ending_epoch

    @property
    def step(self) -> int:
        """Epochs from one active epoch to the next; 1 for a list."""
        return self.frequency or 1

    @property
    def active_epochs(self) -> range | tuple[int, ...]:
        """The epochs in which the policy acts, ascending."""
        return range(self.start, self.end, self.step) if self.epochs is None else self.epochs

    def is_active(self, epoch: int) -> bool:
        return epoch in self.active_epochs

    def is_last(self, epoch: int) -> bool:
        """Whether the policy acts in `epoch` for the last time."""
        return epoch == self.active_epochs[-1]

    def when(self, epoch: int) -> When:
        """What a component is told of that epoch."""
        return When(epoch, self.start, self.end, self.step)


class PruningArguments(_Frozen):
    """How a policy applies its pruner's masks.

    Args:
        levels: in place of the pruner's own.
        keep_mask: the mask stays in force after the policy's last epoch.
        mini_batch_pruning_frequency: prune also every that many steps within an epoch; 0 for never.
        mask_on_forward_only: the backward pass updates masked weights too.
        mask_gradients: but not those of masked weights; needs mask_on_forward_only.
        use_double_copies: gradients of the masked weights update an unmasked copy.
        discard_masks_at_minibatch_end: each step ends without masks.
        skip_first_minibatch: the first step of the training is not pruned.
        fold_batchnorm: weights are ranked scaled by the batch norm that follows.
    """

    levels: dict[str, Fraction] | None = None
    keep_mask: pydantic.StrictBool = False
    mini_batch_pruning_frequency: Count = 0
    mask_on_forward_only: pydantic.StrictBool = False
    mask_gradients: pydantic.StrictBool = False
    use_double_copies: pydantic.StrictBool = False
    discard_masks_at_minibatch_end: pydantic.StrictBool = False
    skip_first_minibatch: pydantic.StrictBool = False
    fold_batchnorm: pydantic.StrictBool = False

    @pydantic.field_validator("mask_gradients")
    @classmethod
    def _check_mask_gradients(cls, mask_gradients: bool, info: pydantic.ValidationInfo) -> bool:
        if mask_gradients and info.data.get("mask_on_forward_only") is False:
            raise ValueError("must be false where mask_on_forward_only is not true")
        return mask_gradients


class RegularizationArguments(_Frozen):
    """How a policy applies its regularizer's thresholds; `keep_mask` keeps the last such mask."""

    keep_mask: pydantic.StrictBool = False


Arguments = PruningArguments | RegularizationArguments
ARGUMENTS: dict[str, type[Arguments]] = {"pruner": PruningArguments, "regularizer": RegularizationArguments}


class PolicySpec(_Frozen):
    """One policy: which instance acts, how, and when.

    Args:
        args: of a pruner's or regularizer's policy, all off by default; None for the other kinds.
    """

    kind: Kind
    instance_name: str
    args: PruningArguments | RegularizationArguments | None = None
    timing: Timing

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_args(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("args") is None and given.get("kind") in ARGUMENTS:
            return {**given, "args": ARGUMENTS[given["kind"]]()}
        return given

    @pydantic.model_validator(mode="after")
    def _check_args(self) -> Self:
        if type(self.args) is not ARGUMENTS.get(self.kind, type(None)):
            raise ValueError(f"args must be those of a {self.kind}'s policy. Received: {type(self.args).__name__}")
        return self
