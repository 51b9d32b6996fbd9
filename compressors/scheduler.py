"""CompressionScheduler: all policies of a schedule behind the hooks of one policy, which the training loop calls."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from compressors.extensions import Slices, Thinned
from compressors.mask_layers import MaskedWeights
from compressors.parameters import Parameters
from compressors.policies import Batch, Policy, Replacement
from compressors.pruning_policy import PruningPolicy
from compressors.quantizers.base import Quantizer
from compressors.schedule import SECTION_OF, SECTIONS, PolicySpec, Schedule, Timing
from compressors.schedule_yaml import check_against, read_schedule
from compressors.scheduled_policies import (
    ExtensionPolicy,
    LRPolicy,
    Network,
    QuantizationPolicy,
    RegularizationPolicy,
    ScheduledPolicy,
    Training,
)
from utils.errors import InputError
from utils.keras_files import build_network

Batches = Callable[[], tf.data.Dataset]
_ARCHITECTURE = "architecture"  # key of the rebuilt network's configuration in the state
_POLICY_CLASSES: dict[str, Callable[..., ScheduledPolicy]] = {
    policy_class.kind: policy_class
    for policy_class in (PruningPolicy, RegularizationPolicy, QuantizationPolicy, LRPolicy, ExtensionPolicy)
}


class CompressionScheduler(Policy):
    """Drives policies through a training; built from YAML, from a dict or with `add_policy`, with the same result.

    Use: `prepare` gives the network to train, `attach` binds the policies to it and its optimizer; then a training
    loop calls the hooks, in which policies act in the order they were added; `finish` gives the compressed network.

    Args:
        model: a functional network.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.policies: list[ScheduledPolicy] = []
        self._idle: dict[str, dict[str, Any]] = {}  # components of a schedule that no policy uses
        self._network: Network | None = None
        self._replacement: Replacement | None = None
        self._was_rebuilt, self._epoch = False, 0

    @classmethod
    def from_schedule(cls, model: keras.Model, schedule: Schedule) -> Self:
        """The scheduler of a schedule.

        Raises:
            InputError: the schedule does not suit the model; all errors are listed.
        """
        check_against(schedule, model)
        scheduler = cls(model)
        for spec in schedule.policies:
            arguments = {} if spec.args is None else spec.args.model_dump(exclude_unset=True)
            policy = _POLICY_CLASSES[spec.kind](schedule.component(spec), name=spec.instance_name, **arguments)
            scheduler._add(policy, spec.timing)
        used = {(SECTION_OF[spec.kind], spec.instance_name) for spec in schedule.policies}
        for section in SECTIONS:
            items = getattr(schedule, section).items()
            scheduler._idle[section] = {name: item for name, item in items if (section, name) not in used}
        return scheduler

    @classmethod
    def from_dict(cls, model: keras.Model, document: Mapping[str, Any]) -> Self:
        """The scheduler of a schedule file's content."""
        return cls.from_schedule(model, Schedule.from_dict(document))

    @classmethod
    def from_yaml(cls, model: keras.Model, path: str | Path) -> Self:
        """The scheduler of a schedule file."""
        return cls.from_schedule(model, read_schedule(path))

    def add_policy(
        self,
        policy: ScheduledPolicy,
        epochs: Sequence[int] | None = None,
        starting_epoch: int = 0,
        ending_epoch: int = 1,
        frequency: int = 1,
    ) -> None:
        """Lets a policy act in `epochs`, or in `range(starting_epoch, ending_epoch, frequency)`.

        Raises:
            InputError: the policy was added before, the epochs are wrong, or a second quantizer or LR scheduler.
        """
        in_range = {"starting_epoch": starting_epoch, "ending_epoch": ending_epoch, "frequency": frequency}
        self._add(policy, Timing.read(in_range if epochs is None else {"epochs": tuple(epochs)}))

    def to_schedule(self) -> Schedule:
        """What this scheduler does, as data; distillation is left out, no schedule file can hold it."""
        sections: dict[str, dict[str, Any]] = {section: dict(self._idle.get(section, {})) for section in SECTIONS}
        specs = []
        for policy in self.policies:
            if policy.kind in SECTION_OF:
                sections[SECTION_OF[policy.kind]][policy.name] = policy.component
                specs.append(
                    PolicySpec(kind=policy.kind, instance_name=policy.name, args=policy.arguments, timing=policy.epochs)
                )
        everything: dict[str, Any] = sections | {"policies": tuple(specs)}
        return Schedule(**everything)

    def to_dict(self) -> dict[str, Any]:
        """The content of the schedule file that gives this scheduler."""
        return self.to_schedule().to_dict()

    def to_yaml(self) -> str:
        """The schedule file that gives this scheduler."""
        return self.to_schedule().to_yaml()

    def prepare(self, batches: Batches | None = None) -> keras.Model:
        """The network to train: the model itself, or what a quantizer for training makes of it."""
        for quantizer in self.quantizers():
            if quantizer.is_for_training:
                self.model = quantizer.prepare(self.model, batches)
        return self.model

    def quantizers(self) -> list[Quantizer]:
        """The schedule's quantizer, if it has one; one that needs no training may do without a policy."""
        idle: list[Quantizer] = [item for item in self._idle.get("quantizers", {}).values() if not item.is_for_training]
        return [policy.component for policy in self.policies if isinstance(policy, QuantizationPolicy)] + idle

    @property
    def network(self) -> Network:
        """What the policies act on, from `attach` on."""
        assert self._network is not None, "attach comes first"
        return self._network

    def attach(self, optimizer: keras.Optimizer, training: Training) -> None:
        """Binds all policies to the prepared network and its optimizer."""
        self._training = training
        self._bind(self.model, optimizer)

    def finish(self, batches: Batches | None = None) -> keras.Model:
        """The compressed network: all masks in force applied, quantized weights in place of the float ones."""
        if self._network is not None:
            self._network.weights.apply()
        for quantizer in self.quantizers():
            if not quantizer.is_for_training:
                self.model = quantizer.prepare(self.model, batches)
            self.model = quantizer.finish(self.model)
        return self.model

    def on_epoch_begin(self, epoch: int) -> None:
        self._epoch = epoch
        for policy in self.policies:
            policy.on_epoch_begin(epoch)

    def learning_rates(self, recipe: np.ndarray) -> np.ndarray:
        for policy in self.policies:
            recipe = policy.learning_rates(recipe)
        return recipe

    def before_forward(self, step: tf.Tensor) -> None:
        for policy in self.policies:
            policy.before_forward(step)
        self.network.weights.before_forward()

    def transform_loss(self, loss: tf.Tensor, batch: Batch) -> tf.Tensor:
        for policy in self.policies:
            loss = policy.transform_loss(loss, batch)
        return loss

    def weight_decay(self, variable: keras.Variable, default: float) -> float:
        for policy in self.policies:
            default = policy.weight_decay(variable, default)
        return default

    def transform_gradients(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
    ) -> Sequence[tf.Tensor]:
        for policy in self.policies:
            gradients = policy.transform_gradients(gradients, variables)
        return self.network.weights.transform_gradients(gradients, variables)

    def after_update(self) -> None:
        self.network.weights.after_update()
        for policy in self.policies:
            policy.after_update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        for policy in self.policies:
            policy.on_epoch_end(epoch, logs)
            thinned = policy.take_thinned()
            if thinned is not None:
                self._adopt(thinned)

    def replacement(self) -> Replacement | None:
        replacement, self._replacement = self._replacement, None
        return replacement

    def compressed(self) -> AbstractContextManager:
        return nullcontext() if self._network is None else self._network.weights.applied()

    def sparsity(self) -> float:
        parameters = [parameter.path for parameter in self.network.parameters.prunable()]
        masked = self.network.weights.masked_counts()
        total = sum(self.network.parameters[path].size for path in parameters)
        return sum(int(masked.get(path, 0)) for path in parameters) / max(1, total)

    def state(self) -> dict[str, np.ndarray]:
        return self._state({})

    def restructure(self, state: Mapping[str, np.ndarray]) -> Replacement | None:
        if _ARCHITECTURE not in state:
            return None
        model = build_network(json.loads(bytes(state[_ARCHITECTURE])), "the network of a checkpoint")
        optimizer = type(self.network.optimizer).from_config(self.network.optimizer.get_config())
        optimizer.build(model.trainable_variables)
        self._bind(model, optimizer)
        self._was_rebuilt = True
        return Replacement(model, optimizer)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.network.weights.restore(_below(state, "masks/"))
        for index, policy in enumerate(self.policies):
            policy.restore(_below(state, f"policies/{index}/"))
            policy.resume(int(state["epoch"]))
        self._epoch = int(state["epoch"])

    def _state(self, slices: Slices) -> dict[str, np.ndarray]:
        """The state, as it is for a network whose variables are sliced so."""
        state = {f"masks/{key}": value for key, value in self.network.weights.state(slices).items()}
        for index, policy in enumerate(self.policies):
            state |= {f"policies/{index}/{key}": np.asarray(value) for key, value in policy.state().items()}
        if self._was_rebuilt:
            state[_ARCHITECTURE] = np.frombuffer(self.model.to_json().encode(), np.uint8)
        return state | {"epoch": np.array(self._epoch, np.int64)}

    def _bind(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        parameters = Parameters(model)
        weights = MaskedWeights(parameters.variables)
        removes_filters = any(isinstance(policy, ExtensionPolicy) for policy in self.policies)
        self.model = model
        self._network = Network(model, optimizer, parameters, weights, self._training, removes_filters)
        for policy in self.policies:
            policy.bind(self._network)

    def _adopt(self, thinned: Thinned) -> None:
        """Goes on with a smaller network: masks are sliced as its weights are."""
        state = self._state(thinned.slices)
        self._bind(thinned.model, thinned.optimizer)
        self.restore(state)
        self._was_rebuilt = True
        self._replacement = Replacement(thinned.model, thinned.optimizer)

    def _add(self, policy: ScheduledPolicy, timing: Timing) -> None:
        if policy.timing is not None:
            raise InputError("a policy can be added once; make another of the same component")
        others = [other for other in self.policies if other.kind == policy.kind]
        if isinstance(policy, QuantizationPolicy):
            if others:
                raise InputError("a schedule can have one policy of a quantizer. Received: a second")
            if timing.start != 0:
                raise InputError(f"a quantization policy must start at epoch 0. Received: {timing.start}")
        if isinstance(policy, LRPolicy) and others:
            first = others[0]
            if first.component != policy.component:
                raise InputError("a schedule can have one lr_scheduler. Received: a second")
            assert isinstance(first, LRPolicy)
            policy.share_rate(first)
        names = {other.name: other.component for other in others}
        if not policy.name:
            known = (name for name, component in names.items() if component is policy.component)
            numbered = (f"{policy.kind}_{number}" for number in itertools.count(1))
            policy.name = next(known, None) or next(name for name in numbered if name not in names)
        elif names.get(policy.name, policy.component) != policy.component:
            raise InputError(f"two {policy.kind}s cannot have one name. Received: {policy.name!r} twice")
        policy.timing = timing
        self.policies.append(policy)


def _below(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
