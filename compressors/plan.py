"""The plan of a schedule for a model: what each policy will ask of which parameters in which epoch, before training."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import keras

from compressors.lr_schedulers.base import LRScheduler
from compressors.parameters import Parameter, Parameters
from compressors.policy_specs import PolicySpec
from compressors.pruners.base import Pruner
from compressors.quantizers.base import Quantizer
from compressors.regularizers.base import Regularizer
from compressors.schedule import Schedule
from compressors.schedule_yaml import check_against


class Group(NamedTuple):
    """Parameters (of a quantizer: layers) of which a policy asks the same.

    `sparsity` has for each epoch in which a pruner acts the share it asks for, None where the weights decide; `setting`
    is what the other kinds ask for, in words.
    """

    names: tuple[str, ...]
    num_weights: int
    sparsity: Mapping[int, float | None] = {}
    setting: str = ""


class PlanRow(NamedTuple):
    """What a policy does within the training; a quantizer of finished networks has a row without a policy.

    `epochs` are the active ones, `rates` the learning rate of each epoch, None where the training's course decides;
    `discards_masks`: those of a pruner hold within a step only; `has_threshold`: a regularizer's zeroes weights.
    """

    number: int
    kind: str
    instance: str
    class_name: str
    epochs: tuple[int, ...]
    groups: tuple[Group, ...] = ()
    rates: Mapping[int, float | None] = {}
    discards_masks: bool = False
    has_threshold: bool = False

    def sparsity_range(self, epoch: int) -> tuple[float, float] | None:
        """The least and the most that is asked of a parameter in that epoch; None where the weights decide."""
        asked = [group.sparsity[epoch] for group in self.groups]
        known = [sparsity for sparsity in asked if sparsity is not None]
        return (min(known), max(known)) if known and len(known) == len(asked) else None


class Plan(NamedTuple):
    """A schedule's policies over the epochs of a training.

    `kernels` are the sizes of all prunable kernels by path, `untouched` those kernels that no policy acts on.
    """

    name: str
    num_epochs: int
    rows: tuple[PlanRow, ...]
    kernels: Mapping[str, int]
    untouched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ratios(self) -> dict[str, float]:
        """Path -> the share of the parameter that pruners ask for in the end, at least (see `is_exact`)."""
        ratios: dict[str, float] = {}
        for (path, _), sparsity in self._last_words().items():
            ratios[path] = max(ratios.get(path, 0.0), sparsity or 0.0)
        return ratios

    @property
    def is_exact(self) -> bool:
        """Whether `ratios` is all: nowhere do weights decide, or two pruners, whose masks add up, share a parameter."""
        words = self._last_words()
        return None not in words.values() and len({path for path, _ in words}) == len(words)

    @property
    def targets(self) -> dict[str, float | None]:
        """Path -> the share of each prunable kernel that is asked for in the end; None where the weights decide."""
        asked: dict[str, list[float | None]] = {path: [] for path in self.kernels}
        words = [(path, sparsity) for (path, _), sparsity in self._last_words().items()]
        thresholds = [row.groups for row in self.rows if row.has_threshold]
        words += [(name, None) for groups in thresholds for group in groups for name in group.names]
        for path, sparsity in words:
            if path in asked:
                asked[path].append(sparsity)
        return {path: None if len(said) > 1 else said[0] if said else 0.0 for path, said in asked.items()}

    @property
    def sparsity(self) -> float:
        """`ratios` over all weights of the prunable kernels."""
        ratios = self.ratios
        return sum(ratios.get(path, 0.0) * size for path, size in self.kernels.items()) / max(1, self.num_weights)

    @property
    def num_weights(self) -> int:
        """Weights of the prunable kernels."""
        return sum(self.kernels.values())

    def _last_words(self) -> dict[tuple[str, str], float | None]:
        """(path, instance) -> the last sparsity asked for: policies of one instance share its masks."""
        words: dict[tuple[str, str], tuple[int, float | None]] = {}
        for row in self.rows:
            for group in row.groups if row.kind == "pruner" and row.epochs else ():
                last = row.epochs[-1]
                for key in [(path, row.instance) for path in group.names]:
                    if last >= words.get(key, (0,))[0]:
                        words[key] = last, 0.0 if row.discards_masks else group.sparsity[last]
        return {key: sparsity for key, (_, sparsity) in words.items()}


def make_plan(
    schedule: Schedule, model: keras.Model, num_epochs: int, base_rate: float, steps_per_epoch: int = 1
) -> Plan:
    """What a schedule will do to a model in a training of `num_epochs` epochs.

    Args:
        base_rate: the learning rate without a scheduler.

    Raises:
        InputError: lists all of the schedule that does not suit the model.
    """
    warnings = check_against(schedule, model, num_epochs)
    parameters, rows = Parameters(model), []
    rate_policies = [policy for policy in schedule.policies if policy.kind == "lr_scheduler"]
    rate_changes = {epoch for policy in rate_policies for epoch in _active(policy, num_epochs)}
    for number, policy in enumerate(schedule.policies, 1):
        component, epochs = schedule.acting(policy), _active(policy, num_epochs)
        row = PlanRow(number, policy.kind, policy.instance_name, type(component).__name__, epochs)
        if isinstance(component, Pruner):
            groups = _pruned(component, policy, epochs, parameters)
            row = row._replace(
                groups=groups, discards_masks=getattr(policy.args, "discard_masks_at_minibatch_end", False)
            )
        elif isinstance(component, Regularizer):
            has_threshold = component.threshold_criteria is not None
            row = row._replace(groups=_regularized(component, parameters), has_threshold=has_threshold)
        elif isinstance(component, Quantizer):
            row = row._replace(groups=_quantized(component, model, parameters))
        elif isinstance(component, LRScheduler):
            row = row._replace(rates=_rates(component, rate_changes, num_epochs, base_rate, steps_per_epoch))
        rows.append(row)
    for name, quantizer in schedule.quantizers.items():
        if not quantizer.is_for_training and not any(row.kind == "quantizer" for row in rows):
            groups = _quantized(quantizer, model, parameters)
            rows.append(PlanRow(len(rows) + 1, "quantizer", name, type(quantizer).__name__, (), groups))
    kernels = parameters.prunable()
    touched = {name for row in rows for group in row.groups for name in group.names}
    return Plan(
        schedule.source.name,
        num_epochs,
        tuple(rows),
        {kernel.path: kernel.size for kernel in kernels},
        tuple(kernel.path for kernel in kernels if not {kernel.path, kernel.layer} & touched),
        (*schedule.warnings, *warnings),
    )


def _active(policy: PolicySpec, num_epochs: int) -> tuple[int, ...]:
    return tuple(epoch for epoch in range(num_epochs) if policy.timing.is_active(epoch))


def _pruned(pruner: Pruner, policy: PolicySpec, epochs: Sequence[int], parameters: Parameters) -> tuple[Group, ...]:
    asked = (
        (target.parameter, tuple(pruner.planned_sparsity(target, policy.timing.when(epoch)) for epoch in epochs))
        for target in pruner.targets(parameters)
    )
    return tuple(
        Group(_paths(same), _num_weights(same), dict(zip(epochs, sparsity, strict=True)))
        for sparsity, same in _by_value(asked).items()
    )


def _regularized(regularizer: Regularizer, parameters: Parameters) -> tuple[Group, ...]:
    asked = (
        (target.parameter, f"strength {regularizer.strength(target):g}") for target in regularizer.targets(parameters)
    )
    return tuple(Group(_paths(same), _num_weights(same), setting=setting) for setting, same in _by_value(asked).items())


def _quantized(quantizer: Quantizer, model: keras.Model, parameters: Parameters) -> tuple[Group, ...]:
    layers: dict[str, list[str]] = {}
    for layer, setting in quantizer.layers(model).items():
        layers.setdefault(setting, []).append(layer)
    return tuple(
        Group(tuple(names), _num_weights(p for p in parameters if p.layer in names), setting=setting)
        for setting, names in layers.items()
    )


def _rates(
    scheduler: LRScheduler, changes: Collection[int], num_epochs: int, base: float, steps_per_epoch: int
) -> dict[int, float | None]:
    """The rate of each epoch: it changes at the end of those in `changes`."""
    is_known_before = type(scheduler).next_rate is LRScheduler.next_rate
    rates: dict[int, float | None] = {0: scheduler.rate_at(base, 0, steps_per_epoch)}
    for epoch in range(1, num_epochs):
        rates[epoch] = rates[epoch - 1]
        if epoch - 1 in changes:
            rates[epoch] = scheduler.rate_at(base, epoch, steps_per_epoch) if is_known_before else None
    return rates


def _by_value(pairs: Iterable[tuple[Parameter, object]]) -> dict:
    """Value -> the parameters that have it."""
    groups: dict = {}
    for parameter, value in pairs:
        groups.setdefault(value, []).append(parameter)
    return groups


def _paths(parameters: Iterable[Parameter]) -> tuple[str, ...]:
    return tuple(parameter.path for parameter in parameters)


def _num_weights(parameters: Iterable[Parameter]) -> int:
    return sum(parameter.size for parameter in parameters)
