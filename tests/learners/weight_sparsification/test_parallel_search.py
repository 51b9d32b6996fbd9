"""The search and the finalists with several workers, which are threads here."""

import json
import time

import pytest

from learners.weight_sparsification.finalists import ResolvedNetworks, judge_finalists
from learners.weight_sparsification.ratio_search import SearchLog, search
from tests.fake_workers import run_in_threads
from tests.learners.weight_sparsification.test_finalists import CANDIDATES, FakeEvaluator
from tests.learners.weight_sparsification.test_ratio_search import (
    CONFIG,
    GIVEN,
    LAYERS,
    TIMES,
    agent,
    best_given,
    lines,
    score,
    timeless,
)
from utils.errors import RunError
from utils.workers import ALONE, digest

NUM_ROLLOUTS = 14


def run(directory, workers, scorer=score, num_rollouts=NUM_ROLLOUTS, actor=None):
    """The records and the agent's hash at the end."""
    actor = actor or agent()
    log = SearchLog(directory / "search.jsonl", directory / "agent.npz", workers)
    log.resume(actor)
    records = search(
        LAYERS,
        CONFIG,
        actor,
        GIVEN,
        scorer,
        log,
        num_rollouts,
        best_given=best_given,
        quiet=True,
        workers=workers,
        seed=3,
    )
    return records, digest(actor.shared_state())


@pytest.fixture(scope="module")
def by_three(tmp_path_factory):
    directory = tmp_path_factory.mktemp("by_three")
    return directory, run_in_threads(3, lambda workers: run(directory, workers))


def test_all_workers_end_with_the_same_records_and_the_same_agent(by_three):
    directory, found = by_three
    records, hashes = zip(*found, strict=True)
    assert records[0] == lines(directory)
    assert timeless(records[0]) == timeless(records[1]) == timeless(records[2])
    assert len(set(hashes)) == 1


def test_each_roll_out_is_one_worker_s_in_turn_and_the_agent_waits_for_all_given_ones(by_three):
    records = by_three[1][0][0]
    assert [record["index"] for record in records] == list(range(NUM_ROLLOUTS))
    assert [record["source"] for record in records] == [*GIVEN, *["agent"] * (NUM_ROLLOUTS - len(GIVEN))]
    assert [record["rank"] for record in records] == [index % 3 for index in range(NUM_ROLLOUTS)]


def test_with_two_workers_the_agent_waits_for_the_third_given_one(tmp_path):
    records = run_in_threads(2, lambda workers: run(tmp_path, workers))[0][0]
    assert [record["rank"] for record in records] == [0, 1, 0, *([0, 1] * 6)[: NUM_ROLLOUTS - 3]]


def test_every_worker_explores_with_noise_of_its_own(by_three):
    proposed = [tuple(record["ratios"].values()) for record in by_three[1][0][0][len(GIVEN) :]]
    assert len(set(proposed)) == len(proposed)


def test_a_search_with_as_many_workers_is_the_same_again(by_three, tmp_path):
    again = run_in_threads(3, lambda workers: run(tmp_path, workers))
    assert timeless(again[0][0]) == timeless(by_three[1][0][0])
    assert again[0][1] == by_three[1][0][1]


@pytest.mark.parametrize("killed_at", [0, 2, 3, 7, 11])
def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(by_three, tmp_path, killed_at):
    asked = []

    def until_killed(ratios):
        asked.append(ratios)
        if len(asked) > killed_at:
            raise KeyboardInterrupt
        return score(ratios)

    def killed(workers):
        try:
            return run(tmp_path, workers, until_killed)
        except KeyboardInterrupt as error:
            raise RuntimeError from error  # a thread's death, which run_in_threads tells the others

    assert any(isinstance(result, Exception) for result in run_in_threads(3, killed))
    resumed = run_in_threads(3, lambda workers: run(tmp_path, workers))
    assert timeless(resumed[1][0]) == timeless(by_three[1][0][0])
    assert timeless(lines(tmp_path)) == timeless(by_three[1][0][0])


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 4)])
def test_a_search_goes_on_with_another_number_of_workers(tmp_path, before, after):
    def with_workers(size, num_rollouts):
        if size == 1:
            return [run(tmp_path, ALONE, num_rollouts=num_rollouts)]
        return run_in_threads(size, lambda workers: run(tmp_path, workers, num_rollouts=num_rollouts))

    first = with_workers(before, 6)[0][0]
    records = [records for records, _ in with_workers(after, NUM_ROLLOUTS)]
    assert records[0][:6] == first
    assert all(timeless(one) == timeless(records[0]) for one in records)
    assert [record["index"] for record in records[0]] == list(range(NUM_ROLLOUTS))


def test_more_workers_than_roll_outs_share_what_there_is(tmp_path):
    found = run_in_threads(6, lambda workers: run(tmp_path, workers, num_rollouts=4))
    assert [record["rank"] for record in found[5][0]] == [0, 1, 2, 0]


def test_a_worker_that_is_slow_once_delays_the_others_by_that_once(tmp_path):
    """One roll-out takes .6 s, the others nothing: all together take little more than it."""
    slow = []

    def of(workers):
        def scorer(ratios):
            if workers.rank == 1 and not slow:
                slow.append(time.sleep(0.6))
            return score(ratios)

        run(tmp_path / "warm", workers)  # compiles
        began = time.perf_counter()
        run(tmp_path / "timed", workers, scorer)
        return time.perf_counter() - began

    (tmp_path / "warm").mkdir()
    (tmp_path / "timed").mkdir()
    # Two rounds of the slow one would be 1.2 s and more.
    assert all(seconds >= 0.6 for seconds in run_in_threads(2, of))
    assert len(slow) == 1


def test_an_agent_that_goes_its_own_way_is_noticed_in_the_next_round(tmp_path):
    def of(workers):
        actor = agent()
        if workers.rank == 2:
            actor._noise_scale *= 1.0 + 1e-12
        return run(tmp_path, workers, actor=actor)

    for error in run_in_threads(3, of):
        assert isinstance(error, RunError)
        assert "that of rank 2 differs" in str(error)


def test_the_log_says_which_rank_and_the_first_alone_writes(by_three):
    directory, _ = by_three
    assert sorted(path.name for path in directory.iterdir()) == ["agent.npz", "agent.previous.npz", "search.jsonl"]
    for line in (directory / "search.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert set(TIMES) < set(record)
        assert record["agent_seconds"] <= record["seconds"]


def _judge(workers, directory):
    evaluator = FakeEvaluator()
    networks = ResolvedNetworks(evaluator, evaluator.resolve, directory, quiet=True, workers=workers)
    judged = judge_finalists(
        CANDIDATES,
        evaluator,
        networks,
        lambda accuracy, ratios: accuracy,
        20,
        directory,
        quiet=True,
        workers=workers,
    )
    return [(checkpoint.meta["source"], checkpoint.arrays["fc/kernel"].tolist()) for checkpoint in judged], evaluator


def test_finalists_are_shared_out_and_all_workers_know_all_of_them(tmp_path):
    alone, _ = _judge(ALONE, None)
    found = run_in_threads(2, lambda workers: _judge(workers, tmp_path))
    for judged, _ in found:
        assert judged == alone
    assert [evaluator.resolved for _, evaluator in found] == [[0.2, 0.9], [0.5]]
    assert len(list(tmp_path.glob("finalist_?.npz"))) == 3


def test_finalists_that_are_there_are_not_judged_again_by_any_worker(tmp_path):
    first = _judge(ALONE, tmp_path)[0]
    (tmp_path / "finalist_1.npz").unlink()
    (tmp_path / f"resolved_{CANDIDATES[1]['index']}.npz").unlink()
    found = run_in_threads(2, lambda workers: _judge(workers, tmp_path))
    assert [judged for judged, _ in found] == [first, first]
    assert [evaluator.resolved for _, evaluator in found] == [[0.5], []]
