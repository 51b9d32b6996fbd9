"""The search for each layer's pruning ratio: roll-outs proposed by an agent, scored, remembered and resumed."""

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compressors.ratios import LayerSpec, Ratios, num_removed, overall_ratio
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv, reward
from rl_agents.ddpg.agent import DdpgAgent
from rl_agents.replay import Transition
from utils.errors import RunError
from utils.progress import Progress
from utils.run_dir import Checkpoint, append_line, read_checkpoint, write_atomically, write_checkpoint
from utils.workers import ALONE, Workers, digest, from_first

AGENT = "agent"


class Score(NamedTuple):
    """Validation accuracy of a pruned network, in [0, 1]: as pruned, and after fine-tuning where there was any."""

    accuracy: float
    accuracy_after: float | None = None

    @property
    def final(self) -> float:
        return self.accuracy if self.accuracy_after is None else self.accuracy_after


class SearchRecords:
    """The roll-outs so far, in memory alone."""

    def __init__(self):
        self.records: list[dict[str, Any]] = []

    def append(self, records: Sequence[dict[str, Any]], agent: DdpgAgent) -> None:
        """Takes the roll-outs of one round, and the agent as it is after it."""
        self.records += records


class SearchLog(SearchRecords):
    """`search.jsonl`, a line a roll-out, and the agent's checkpoint after each round of one roll-out a worker.

    The checkpoint is the truth: a line that was written after it belongs to a roll-out that is done again. Rank 0 has
    the files.
    """

    def __init__(self, path: Path, checkpoint: Path, workers: Workers = ALONE):
        super().__init__()
        self._path, self._checkpoint, self._workers = path, checkpoint, workers

    def resume(self, agent: DdpgAgent) -> None:
        """Takes back the roll-outs and the agent of an earlier start."""
        state, self.records = from_first(self._workers, self._read)
        if state is not None:
            agent.set_state(state)

    def _read(self) -> tuple[dict[str, np.ndarray] | None, list[dict[str, Any]]]:
        found = read_checkpoint(self._checkpoint)
        count = 0 if found is None else found.meta["rollouts"]
        lines = self._path.read_text().splitlines(keepends=True)[:count] if self._path.exists() else []
        if len(lines) < count:
            raise RunError(f"{self._path} has {len(lines)} of {count} roll-outs: --overwrite starts anew")
        write_atomically(self._path, lambda temporary: temporary.write_text("".join(lines)))
        return None if found is None else found.arrays, [json.loads(line) for line in lines]

    def append(self, records: Sequence[dict[str, Any]], agent: DdpgAgent) -> None:
        """Takes and writes the roll-outs of one round."""
        super().append(records, agent)
        if self._workers.is_first:
            for record in records:
                append_line(self._path, json.dumps(record, allow_nan=False))
            write_checkpoint(self._checkpoint, Checkpoint(agent.get_state(), {"rollouts": len(self.records)}))


def search(
    layers: Sequence[LayerSpec],
    config: RatioConfig,
    agent: DdpgAgent,
    given: Mapping[str, Ratios],
    score: Callable[[Ratios], Score],
    log: SearchRecords,
    num_rollouts: int,
    *,
    resolved_likelihood: Callable[[Ratios], float],
    quiet: bool = False,
    workers: Workers = ALONE,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Runs the roll-outs that are not in the log yet; returns all records.

    The first roll-outs score the given allocations, and all of them are the first transitions the agent learns from; so
    the best roll-out is never below any of them. The one that is best once re-solved is where the agent's action 0.5
    lies from then on: before that, differences of a point or two between very different allocations say little.

    Several workers go in rounds: in each, every worker proposes with noise of its own and scores its own roll-out, then
    all learn from the roll-outs of all, in the order of their ranks. So their agents stay the same bit for bit.

    Args:
        given: name -> allocation of another protocol.
        num_rollouts: in all, the given ones included.
        resolved_likelihood: `Measure.likelihood` of an allocation as a finalist is re-solved, before fine-tuning.
        seed: of the workers' noise, where there are several.

    Raises:
        RunError: the workers' agents differ.
    """
    names, given = list(given), list(given.values())
    env = None

    def run(index: int) -> tuple[dict[str, Any], list[Transition]]:
        """Roll-out `index`, by this worker."""
        started = time.perf_counter()
        is_given = index < len(names)
        # One worker alone draws its noise from the agent's own generator.
        noise = None if workers.size == 1 else np.random.default_rng([seed, index])
        transitions = [] if is_given else _propose(env, agent, noise)
        ratios = dict(given[index] if is_given else env.ratios())
        asked = time.perf_counter()
        scored = score(ratios)
        record = {
            "index": index,
            "source": names[index] if is_given else AGENT,
            "rank": workers.rank,
            "ratios": ratios,
            "overall_ratio": overall_ratio(layers, ratios),
            "reward": reward(config.reward_type, scored.final, overall_ratio(layers, ratios)),
            "accuracy": scored.accuracy,
            "accuracy_after": scored.accuracy_after,
        }
        if is_given:
            record["resolved_likelihood"] = resolved_likelihood(ratios)
        return record | {"seconds": time.perf_counter() - started, "agent_seconds": asked - started}, transitions

    with Progress("search", num_rollouts, unit="roll-out", initial=len(log.records), quiet=quiet) as bar:
        while (first := len(log.records)) < num_rollouts:
            # The agent begins where all the given ones are known.
            end = min(first + workers.size, num_rollouts if first >= len(names) else len(names), num_rollouts)
            if first >= len(names) and env is None:
                env = RolloutEnv(layers, config, _best_resolved(log.records)[0]["ratios"])
            done = _gather(run(first + workers.rank) if workers.rank < end - first else None, agent, workers)
            for record, transitions in done:
                learning = time.perf_counter()
                _observe(agent, transitions, record["reward"])
                if record["index"] == len(names) - 1:
                    records = [*log.records, *(one for one, _ in done)]
                    env = RolloutEnv(layers, config, _best_resolved(records)[0]["ratios"])
                    for known in records:
                        _observe(agent, _replay(env, known["ratios"]), known["reward"])
                agent.learn()
                learning = time.perf_counter() - learning
                record["seconds"] += learning
                record["agent_seconds"] += learning
            log.append([record for record, _ in done], agent)
            bar.update(end, reward=done[-1][0]["reward"], best=best_of(log.records)["reward"])
    return log.records


def _gather(
    mine: tuple[dict[str, Any], list[Transition]] | None, agent: DdpgAgent, workers: Workers
) -> list[tuple[dict[str, Any], list[Transition]]]:
    """The roll-outs of one round, after a look at whether all agents were the same in it."""
    if workers.size == 1:
        return [mine]
    gathered = workers.all_gather((mine, digest(agent.shared_state())))
    for rank, (_, other) in enumerate(gathered):
        if other != gathered[0][1]:
            raise RunError(f"the workers' agents must be the same, but that of rank {rank} differs from that of rank 0")
    return [done for done, _ in gathered if done is not None]


def best_of(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The record of the highest reward, the first of them."""
    return max(records, key=lambda record: record["reward"])


def best_distinct(
    records: Sequence[Mapping[str, Any]], layers: Sequence[LayerSpec], count: int
) -> list[Mapping[str, Any]]:
    """In turn the given allocations that are best once re-solved and the roll-outs of highest reward: `count` in all.

    Of those that remove as many weights from every layer only one is taken.
    """
    chosen: dict[tuple[int, ...], Mapping[str, Any]] = {}
    by_reward = sorted(records, key=lambda record: -record["reward"])
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(_best_resolved(records), by_reward))
    for record in filter(None, in_turn):
        removed = tuple(num_removed(record["ratios"][layer.path], layer.size) for layer in layers)
        chosen.setdefault(removed, record)
    return list(chosen.values())[:count]


def _best_resolved(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records of the given allocations, the likeliest once re-solved first."""
    given = [record for record in records if "resolved_likelihood" in record]
    return sorted(given, key=lambda record: -record["resolved_likelihood"])


def _propose(env: RolloutEnv, agent: DdpgAgent, noise: np.random.Generator | None) -> list[Transition]:
    """One pass of the agent over the layers; rewards are still 0."""
    agent.begin_rollout(noise)
    return _walk(env, lambda state: agent.act(state, explore=True))


def _replay(env: RolloutEnv, ratios: Ratios) -> list[Transition]:
    """One pass with the actions nearest to the given ratios; rewards are still 0."""
    remaining = iter(env.layers)
    return _walk(env, lambda state: np.array([env.action_for(ratios[next(remaining).path])], np.float32))


def _walk(env: RolloutEnv, act: Callable[[np.ndarray], np.ndarray]) -> list[Transition]:
    transitions = []
    state, done = env.reset(), False
    while not done:
        action = act(state)
        following, done = env.step(float(action[0]))
        transitions.append(Transition(state, action, 0.0, float(done), following))
        state = following
    return transitions


def _observe(agent: DdpgAgent, transitions: Sequence[Transition], reward: float) -> None:
    """Gives the agent one roll-out, its reward to every transition."""
    for transition in transitions:
        agent.observe(transition._replace(reward=reward))
    if transitions:
        agent.end_rollout(reward)
