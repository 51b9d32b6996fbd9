"""The search for each layer's pruning ratio: roll-outs proposed by an agent, scored, remembered and resumed."""

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compressors.ratios import LayerSpec, Ratios, num_removed, overall_ratio
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv, reward
from rl_agents.ddpg.agent import DdpgAgent
from rl_agents.replay import Transition
from utils.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from utils.errors import RunError
from utils.files import append_line, write_atomically
from utils.progress import Progress
from utils.workers import ALONE, Workers, digest, from_first

AGENT = "agent"

Record = Mapping[str, Any]  # of a roll-out: a line of search.jsonl


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

    The checkpoint is the truth: a line that was written after it belongs to a roll-out that is done again, and those
    before must have the hash that it holds. Rank 0 has the files.
    """

    def __init__(self, path: Path, checkpoint: Path, workers: Workers = ALONE):
        super().__init__()
        self._path, self._checkpoint, self._workers = path, checkpoint, workers
        self._hash = hashlib.sha256()  # of all lines

    def resume(self, agent: DdpgAgent) -> None:
        """Takes back the roll-outs and the agent of an earlier start."""
        state, self.records = from_first(self._workers, self._read)
        if state is not None:
            agent.set_state(state)
        elif self._workers.is_first:
            self._save(agent)  # from now on lines without a checkpoint are what is left of one that was lost

    def _read(self) -> tuple[dict[str, np.ndarray] | None, list[dict[str, Any]]]:
        found = read_checkpoint(self._checkpoint)
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        if found is None and lines:
            raise RunError(f"{self._path} has {len(lines)} roll-outs, {self._checkpoint} is missing: {self._advice}")
        count = 0 if found is None else found.meta["rollouts"]
        if len(lines) < count:
            raise RunError(f"{self._path} has {len(lines)} of {count} roll-outs: {self._advice}")
        content = b"".join(lines[:count])
        self._hash.update(content)
        if found is not None and found.meta["lines"] != self._hash.hexdigest():
            raise RunError(f"{self._path} is damaged: {self._advice}")
        write_atomically(self._path, lambda temporary: temporary.write_bytes(content))
        return None if found is None else found.arrays, [json.loads(line) for line in lines[:count]]

    @property
    def _advice(self) -> str:
        return (
            f"put a whole copy back. Without {self._path.name} and the folders {self._checkpoint.parent.name} and "
            "finalists the search begins anew; --overwrite starts all of it anew"
        )

    def append(self, records: Sequence[dict[str, Any]], agent: DdpgAgent) -> None:
        """Takes and writes the roll-outs of one round."""
        super().append(records, agent)
        if self._workers.is_first:
            for record in records:
                line = json.dumps(record, allow_nan=False)
                append_line(self._path, line)
                self._hash.update(f"{line}\n".encode())
            self._save(agent)

    def _save(self, agent: DdpgAgent) -> None:
        meta = {"rollouts": len(self.records), "lines": self._hash.hexdigest()}
        write_checkpoint(self._checkpoint, Checkpoint(agent.get_state(), meta))


def search(
    layers: Sequence[LayerSpec],
    config: RatioConfig,
    agent: DdpgAgent,
    given: Mapping[str, Ratios],
    score: Callable[[Ratios], Score],
    log: SearchRecords,
    num_rollouts: int,
    *,
    best_given: Callable[[Sequence[Record]], Sequence[Record]],
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
        best_given: records of the given allocations -> the best of them, the very best first. Asked by all workers at
            the same time.
        seed: of the workers' noise, where there are several.

    Raises:
        RunError: the workers' agents differ, or the quality of a roll-out's network is no number.
    """
    names, allocations = list(given), list(given.values())
    num_given = min(len(names), num_rollouts)

    def run(index: int, env: RolloutEnv | None) -> tuple[dict[str, Any], list[Transition]]:
        """Roll-out `index`, by this worker: of a given allocation, or what the agent does in `env`."""
        started = time.perf_counter()
        # One worker alone draws its noise from the agent's own generator.
        noise = None if workers.size == 1 else np.random.default_rng([seed, index])
        transitions = _propose(env, agent, noise) if env else []
        ratios = dict(env.ratios() if env else allocations[index])
        asked = time.perf_counter()
        scored = score(ratios)
        _check_score(scored, index, AGENT if env else names[index])
        record = {
            "index": index,
            "source": AGENT if env else names[index],
            "rank": workers.rank,
            "ratios": ratios,
            "overall_ratio": overall_ratio(layers, ratios),
            "reward": reward(config.reward_type, scored.final, overall_ratio(layers, ratios)),
            "accuracy": scored.accuracy,
            "accuracy_after": scored.accuracy_after,
        }
        return record | {"seconds": time.perf_counter() - started, "agent_seconds": asked - started}, transitions

    def run_all(title: str, end: int, env: RolloutEnv | None = None) -> None:
        with Progress(title, end, unit="roll-out", initial=len(log.records), quiet=quiet) as bar:
            while (first := len(log.records)) < end:
                mine = run(first + workers.rank, env) if first + workers.rank < end else None
                done = _gather(mine, agent, workers)
                for record, transitions in done:
                    learning = time.perf_counter()
                    _observe(agent, transitions, record["reward"])
                    agent.learn()
                    learning = time.perf_counter() - learning
                    record["seconds"] += learning
                    record["agent_seconds"] += learning
                log.append([record for record, _ in done], agent)
                best = best_of(log.records)["reward"]
                bar.update(len(log.records), reward=done[-1][0]["reward"], best=best)

    if len(log.records) < num_given:
        run_all("given allocations", num_given)
    if len(log.records) < num_rollouts:
        known = log.records[:num_given]
        env = RolloutEnv(layers, config, best_given(known)[0]["ratios"])
        if len(log.records) == num_given:
            for record in known:
                _observe(agent, _replay(env, record["ratios"]), record["reward"])
            agent.learn()
        run_all("search", num_rollouts, env)
    return log.records


def _check_score(score: Score, index: int, source: str) -> None:
    """Raises RunError for a quality that is no number, before anything learns from it.

    A classifier whose outputs are no numbers is wrong, which is a reward of 0; only a regression has no worst quality.
    """
    for value in (score.accuracy, score.final):
        if not math.isfinite(value):
            raise RunError(
                f"roll-out {index} ({source}): the quality of the pruned network on the validation set is {value}, as "
                "its outputs are no numbers; the roll-outs before it are kept. A lower --ws_prune_ratio or another "
                "--seed may help (with --overwrite or another --run_dir)."
            )


def _gather(
    mine: tuple[dict[str, Any], list[Transition]] | None, agent: DdpgAgent, workers: Workers
) -> list[tuple[dict[str, Any], list[Transition]]]:
    """The roll-outs of one round, after a look at whether all agents were the same in it."""
    if workers.size == 1:
        assert mine is not None, "a worker alone has every roll-out"
        return [mine]
    gathered = workers.all_gather((mine, digest(agent.shared_state())))
    for rank, (_, other) in enumerate(gathered):
        if other != gathered[0][1]:
            raise RunError(f"the workers' agents must be the same, but that of rank {rank} differs from that of rank 0")
    return [done for done, _ in gathered if done is not None]


def best_of(records: Sequence[Record]) -> Record:
    """The record of the highest reward, the first of them."""
    return max(records, key=lambda record: record["reward"])


def best_distinct(
    records: Sequence[Record], best_given: Sequence[Record], layers: Sequence[LayerSpec], count: int
) -> list[Record]:
    """In turn the best of the given allocations and the roll-outs of highest reward: `count` in all.

    Of those that remove as many weights from every layer only one is taken.
    """
    chosen: dict[tuple[int, ...], Record] = {}
    by_reward = sorted(records, key=lambda record: -record["reward"])
    for record in filter(None, itertools.chain.from_iterable(itertools.zip_longest(best_given, by_reward))):
        removed = tuple(num_removed(record["ratios"][layer.path], layer.size) for layer in layers)
        chosen.setdefault(removed, record)
    return list(chosen.values())[:count]


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
