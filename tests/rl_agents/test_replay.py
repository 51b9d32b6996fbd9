import numpy as np
import pytest

from rl_agents.replay import ReplayBuffer, Transition


def numbered(number: float) -> Transition:
    """A transition all of whose numbers tell which one it is."""
    return Transition(np.full(3, number), np.full(2, number / 10), number, 0.0, np.full(3, number + 1))


def filled(capacity: int, count: int) -> ReplayBuffer:
    replay = ReplayBuffer(capacity, state_size=3, action_size=2)
    for number in range(count):
        replay.add(numbered(number))
    return replay


def test_length_grows_to_the_capacity_and_stays():
    assert [len(filled(4, count)) for count in (0, 1, 4, 9)] == [0, 1, 4, 4]


def test_the_oldest_transition_makes_room():
    assert sorted(filled(4, 6).rewards()) == [2, 3, 4, 5]


def test_a_buffer_not_yet_full_gives_only_what_was_stored():
    batch = filled(100, 2).sample((50,), np.random.default_rng(0))
    assert set(batch.reward.ravel()) == {0.0, 1.0}


def test_samples_are_whole_transitions_in_the_shape_asked():
    batch = filled(10, 10).sample((5, 8), np.random.default_rng(1))
    assert [field.shape for field in batch] == [(5, 8, 3), (5, 8, 2), (5, 8, 1), (5, 8, 1), (5, 8, 3)]
    np.testing.assert_array_equal(batch.state, np.broadcast_to(batch.reward, (5, 8, 3)))
    np.testing.assert_allclose(batch.action, np.broadcast_to(batch.reward / 10, (5, 8, 2)), rtol=1e-6)
    np.testing.assert_array_equal(batch.next_state, np.broadcast_to(batch.reward + 1, (5, 8, 3)))


def test_every_transition_is_drawn_about_as_often():
    batch = filled(4, 7).sample((4000,), np.random.default_rng(2))
    counts = np.unique(batch.reward, return_counts=True)[1]
    assert counts == pytest.approx([1000] * 4, abs=120)  # four standard deviations


def test_a_restored_buffer_goes_on_like_the_first():
    first, second = filled(4, 6), ReplayBuffer(4, 3, 2)
    second.restore({name: value.copy() for name, value in first.state().items()})
    for replay in (first, second):
        replay.add(numbered(99))
    np.testing.assert_array_equal(first.rewards(), second.rewards())
    assert sorted(second.rewards()) == [3, 4, 5, 99]


def test_a_state_of_another_capacity_is_refused():
    with pytest.raises(AssertionError):
        ReplayBuffer(5, 3, 2).restore(filled(4, 4).state())
