"""Deep deterministic policy gradient with a moving-average baseline and parameter or action noise."""

import json
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from rl_agents.ddpg.config import DdpgConfig
from rl_agents.ddpg.learning import LearnerState, Network, initial_state, make_learn
from rl_agents.ddpg.networks import NetworkShape, actor, noise_mask
from rl_agents.ddpg.noise import action_distance, adapted_scale, decay_factor
from rl_agents.replay import ReplayBuffer, Transition
from utils.errors import RunError


class DdpgAgent:
    """An agent for roll-outs whose reward is known at their end (Lillicrap et al., 2016).

    A roll-out: `begin_rollout`, `act` at each step, `observe` each transition, `end_rollout`, `learn`. Roll-outs
    explore without learning until the replay is full, so its capacity says how long. An observed action need not come
    from `act`.

    Args:
        state_size: S.
        action_size: A.
        config: the options.
        num_rollouts: roll-outs after which the noise of protocol `tdecy` would reach its final scale.
        replay_capacity: transitions remembered.
        seed: of the networks, the noise and the samples.
    """

    def __init__(
        self,
        state_size: int,
        action_size: int,
        config: DdpgConfig,
        *,
        num_rollouts: int,
        replay_capacity: int,
        seed: int,
    ):
        self._config = config
        self._generator = np.random.default_rng(seed)
        self._actor_shape = NetworkShape(state_size, action_size, config.actor_depth, config.actor_width)
        critic_shape = NetworkShape(state_size + action_size, 1, config.critic_depth, config.critic_width)
        self._state = initial_state(self._actor_shape, critic_shape, self._generator)
        self._learn = make_learn(self._actor_shape, critic_shape, config)
        self._replay = ReplayBuffer(replay_capacity, state_size, action_size)
        self._noise_mask = noise_mask(self._actor_shape)
        self._decay_factor = decay_factor(config.noise_initial, config.noise_final, num_rollouts)
        self._noise_scale = config.noise_initial
        self._baseline = 0.0
        self._num_rewards = 0
        self._num_observed = 0
        self._num_unlearned = 0
        self._disturbed = self._actor_parameters()
        self._noise = self._generator

    @property
    def is_learning(self) -> bool:
        """Whether the exploration is over: the replay is full."""
        return len(self._replay) == self._replay.capacity

    @property
    def noise_scale(self) -> float:
        """The exploration noise's standard deviation."""
        return self._noise_scale

    @property
    def baseline(self) -> float:
        """The moving average of the roll-outs' rewards, 0 before the first."""
        return self._baseline

    def begin_rollout(self, noise: np.random.Generator | None = None) -> None:
        """Disturbs the actor's parameters for the coming roll-out, where noise is on parameters.

        Args:
            noise: what the roll-out's noise is drawn from; None: the generator that all else is drawn from. With one of
                its own the agent stays the same as others that learn from the same roll-outs.
        """
        self._noise = self._generator if noise is None else noise
        if self._config.noise_type == "param":
            self._disturbed = self._disturbed_parameters(self._noise)

    def act(self, state: np.ndarray, explore: bool) -> np.ndarray:
        """The action, [A] in [0, 1], for a state [S]: the actor's own, or one that explores around it."""
        if not explore:
            return actor(self._actor_shape, self._actor_parameters(), state)
        if self._config.noise_type == "param":
            return actor(self._actor_shape, self._disturbed, state)
        return self._with_noise(actor(self._actor_shape, self._actor_parameters(), state), self._noise)

    def observe(self, transition: Transition) -> None:
        """Remembers one transition in every `record_every`.

        Raises:
            RunError: its reward is NaN or infinite, which nothing that is learnt from it would survive.
        """
        _check_reward(transition.reward)
        if self._num_observed % self._config.record_every == 0:
            self._replay.add(transition)
        self._num_observed += 1
        self._num_unlearned += 1

    def end_rollout(self, reward: float) -> None:
        """Takes a roll-out's reward into the baseline: b <- decay * b + (1 - decay) * reward, the first as it is.

        Raises:
            RunError: it is NaN or infinite.
        """
        _check_reward(reward)
        decay = self._config.baseline_decay if self._num_rewards else 0.0
        self._baseline = decay * self._baseline + (1.0 - decay) * float(reward)
        self._num_rewards += 1

    def learn(self) -> dict[str, float]:
        """Takes one gradient step for each transition observed since the last call, once exploration is over.

        Then the noise's scale changes as the protocol says. Returns mean losses and the noise's scale; the losses are
        missing where no step was taken.

        Raises:
            RunError: the networks' parameters are not finite any more.
        """
        steps, self._num_unlearned = self._num_unlearned, 0
        if not (self.is_learning and steps):
            return {"noise_scale": self._noise_scale}
        batches = self._replay.sample((steps, self._config.batch_size), self._generator)
        if self._config.use_baseline:
            batches = batches._replace(reward=self._advantages(batches.reward))
        self._state, critic_loss, actor_loss = self._learn(self._state, batches)
        for name in ("actor", "critic"):
            if not np.isfinite(getattr(self._state, name).parameters).all():
                raise RunError(
                    f"the agent's {name} has parameters that are no numbers after learning step "
                    f"{int(self._state.step)} with --ddpg_lrn_rate {self._config.learning_rate:g}. A lower one may "
                    "help (with --overwrite or another --run_dir)."
                )
        if self._config.noise_protocol == "tdecy":
            self._noise_scale *= self._decay_factor
        else:
            self._adapt_noise(batches.state)
        return {"critic_loss": float(critic_loss), "actor_loss": float(actor_loss), "noise_scale": self._noise_scale}

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that the agent's future depends on, as arrays without pickled objects."""
        networks = {
            f"{name}.{field}": value.numpy()
            for name in ("actor", "critic")
            for field, value in getattr(self._state, name)._asdict().items()
        }
        replay = {f"replay.{name}": value.copy() for name, value in self._replay.state().items()}
        return {
            **networks,
            **replay,
            "learning_step": self._state.step.numpy(),
            "disturbed_actor": self._disturbed.copy(),
            "noise_scale": np.array(self._noise_scale),
            "baseline": np.array(self._baseline),
            "num_rewards": np.array(self._num_rewards),
            "num_observed": np.array(self._num_observed),
            "num_unlearned": np.array(self._num_unlearned),
            "generator": np.array(json.dumps(self._generator.bit_generator.state)),
        }

    def shared_state(self) -> dict[str, np.ndarray]:
        """`get_state` without what belongs to the roll-out at hand: the same for all that learned from the same."""
        return {name: value for name, value in self.get_state().items() if name != "disturbed_actor"}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues bit for bit from what `get_state` gave, on an agent made with the same arguments."""
        networks = {
            name: Network(*(tf.constant(state[f"{name}.{field}"]) for field in Network._fields))
            for name in ("actor", "critic")
        }
        self._state = LearnerState(**networks, step=tf.constant(state["learning_step"]))
        prefix = "replay."
        self._replay.restore({name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)})
        self._disturbed = np.array(state["disturbed_actor"])
        self._noise_scale = float(state["noise_scale"])
        self._baseline = float(state["baseline"])
        self._num_rewards = int(state["num_rewards"])
        self._num_observed = int(state["num_observed"])
        self._num_unlearned = int(state["num_unlearned"])
        self._generator.bit_generator.state = json.loads(str(state["generator"]))

    def _actor_parameters(self) -> np.ndarray:
        return self._state.actor.parameters.numpy()

    def _disturbed_parameters(self, generator: np.random.Generator) -> np.ndarray:
        """parameters + scale * N(0, 1), gains and shifts of the layer norm left alone."""
        noise = generator.standard_normal(self._noise_mask.shape, np.float32)
        return self._actor_parameters() + np.float32(self._noise_scale) * self._noise_mask * noise

    def _advantages(self, rewards: np.ndarray) -> np.ndarray:
        """(rewards - baseline) / standard deviation of the rewards remembered.

        Accuracies of good candidates lie within a hundredth; in units of their spread the critic learns them as fast as
        any.
        """
        spread = float(np.std(self._replay.rewards()))
        return (rewards - np.float32(self._baseline)) / np.float32(spread if spread > 1e-6 else 1.0)

    def _with_noise(self, actions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """actions + scale * N(0, 1), clipped to [0, 1]."""
        noise = generator.standard_normal(actions.shape, np.float32)
        return np.clip(actions + np.float32(self._noise_scale) * noise, 0.0, 1.0)

    def _adapt_noise(self, states: np.ndarray) -> None:
        """One change of the scale for each batch of states [N, B, S]."""
        config = self._config
        plain = actor(self._actor_shape, self._actor_parameters(), states)
        for batch, actions in zip(states, plain, strict=True):
            if config.noise_type == "param":
                disturbed = actor(self._actor_shape, self._disturbed_parameters(self._generator), batch)
            else:
                disturbed = self._with_noise(actions, self._generator)
            self._noise_scale = adapted_scale(
                self._noise_scale,
                action_distance(actions, disturbed),
                config.noise_target_distance,
                config.noise_adapt_rate,
            )


def _check_reward(reward: np.ndarray | float) -> None:
    if not np.isfinite(reward):
        raise RunError(f"a reward must be a finite number. Received: {reward}")
