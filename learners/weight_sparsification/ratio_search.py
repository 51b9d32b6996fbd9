"""The search for each layer's pruning ratio: roll-outs proposed by an agent, scored, remembered and resumed."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compressors.ratios import LayerSpec, Ratios, num_removed, overall_ratio
from learners.weight_sparsification.rollout_env import RolloutEnv
from rl_agents.ddpg.agent import DdpgAgent
from rl_agents.replay import Transition
from utils.errors import RunError
from utils.progress import Progress
from utils.run_dir import Checkpoint, read_checkpoint, write_atomically, write_checkpoint

AGENT = "agent"


class Score(NamedTuple):
    """Validation accuracy of a pruned network, in [0, 1]: as pruned, and after fine-tuning where there was any."""

    accuracy: float
    accuracy_after: float | None = None

    @property
    def final(self) -> float:
        return self.accuracy if self.accuracy_after is None else self.accuracy_after


class SearchLog:
    """`search.jsonl`, a line a roll-out, and the agent's checkpoint after each.

    The checkpoint is the truth: a line that was written after it belongs to a roll-out that is done again.
    """

    def __init__(self, path: Path, checkpoint: Path):
        self._path, self._checkpoint = path, checkpoint
        self.records: list[dict[str, Any]] = []

    def resume(self, agent: DdpgAgent) -> None:
        """Takes back the roll-outs and the agent of an earlier start."""
        found = read_checkpoint(self._checkpoint)
        count = 0
        if found is not None:
            agent.set_state(found.arrays)
            count = found.meta["rollouts"]
        lines = self._path.read_text().splitlines(keepends=True)[:count] if self._path.exists() else []
        if len(lines) < count:
            raise RunError(f"{self._path} has {len(lines)} of {count} roll-outs: --overwrite starts anew")
        self.records = [json.loads(line) for line in lines]
        write_atomically(self._path, lambda temporary: temporary.write_text("".join(lines)))

    def append(self, record: dict[str, Any], agent: DdpgAgent) -> None:
        """Writes one finished roll-out."""
        self.records.append(record)
        with open(self._path, "a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        write_checkpoint(self._checkpoint, Checkpoint(agent.get_state(), {"rollouts": len(self.records)}))


def search(
    env: RolloutEnv,
    agent: DdpgAgent,
    given: Mapping[str, Ratios],
    score: Callable[[Ratios], Score],
    log: SearchLog,
    num_rollouts: int,
    *,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Runs the roll-outs that are not in the log yet; returns all records.

    Args:
        given: name -> allocation of another protocol: the first roll-outs, from which the agent learns too, so that the
            best roll-out is never below any of them.
        num_rollouts: in all, the given ones included.
    """
    names = list(given)
    with Progress("search", num_rollouts, unit="roll-out", initial=len(log.records), quiet=quiet) as bar:
        for index in range(len(log.records), num_rollouts):
            started = time.perf_counter()
            source = names[index] if index < len(names) else AGENT
            agent.begin_rollout()
            transitions = _walk(env, agent, given.get(source))
            ratios = dict(given.get(source) or env.ratios())
            agent_seconds = time.perf_counter() - started
            scored = score(ratios)
            resumed = time.perf_counter()
            reward = env.reward(scored.final, overall_ratio(env.layers, ratios))
            for transition in transitions:
                agent.observe(transition._replace(reward=reward))
            agent.end_rollout(reward)
            agent.learn()
            ended = time.perf_counter()
            record = {
                "index": index,
                "source": source,
                "ratios": ratios,
                "overall_ratio": overall_ratio(env.layers, ratios),
                "reward": reward,
                "accuracy": scored.accuracy,
                "accuracy_after": scored.accuracy_after,
                "seconds": ended - started,
                "agent_seconds": agent_seconds + ended - resumed,
            }
            log.append(record, agent)
            bar.update(index + 1, reward=reward, best=max(r["reward"] for r in log.records))
    return log.records


def best_distinct(
    records: Sequence[Mapping[str, Any]], layers: Sequence[LayerSpec], count: int
) -> list[Mapping[str, Any]]:
    """The `count` records of highest reward, of those that remove as many weights from every layer only one."""
    chosen: dict[tuple[int, ...], Mapping[str, Any]] = {}
    for record in sorted(records, key=lambda r: -r["reward"]):
        removed = tuple(num_removed(record["ratios"][layer.path], layer.size) for layer in layers)
        chosen.setdefault(removed, record)
    return list(chosen.values())[:count]


def _walk(env: RolloutEnv, agent: DdpgAgent, given: Ratios | None) -> list[Transition]:
    """One pass over the layers, by the agent's actions or by those nearest to the given ratios; rewards are still 0."""
    transitions = []
    state, done = env.reset(), False
    while not done:
        if given is None:
            action = agent.act(state, explore=True)
        else:
            ratio = given[env.layers[len(transitions)].path]
            action = np.array([env.action_for(ratio)], np.float32)
        following, done = env.step(float(action[0]))
        transitions.append(Transition(state, action, 0.0, float(done), following))
        state = following
    return transitions
