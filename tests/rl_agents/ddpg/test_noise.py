import numpy as np
import pytest

from rl_agents.ddpg.noise import action_distance, adapted_scale, decay_factor


def test_decay_over_200_rollouts_gives_the_known_scales():
    factor = decay_factor(1.0, 1e-5, 200)
    assert [factor**count for count in (1, 2, 3)] == pytest.approx([0.94406, 0.89125, 0.84140], abs=5e-6)


@pytest.mark.parametrize(("initial", "final", "rollouts"), [(1.0, 1e-5, 200), (0.3, 0.01, 7), (0.5, 0.5, 3)])
def test_decay_ends_at_the_final_scale(initial, final, rollouts):
    assert initial * decay_factor(initial, final, rollouts) ** rollouts == pytest.approx(final)


def test_action_distance_is_the_root_mean_square():
    plain, disturbed = np.array([[0.0], [0.5]]), np.array([[0.3], [0.1]])
    assert action_distance(plain, disturbed) == pytest.approx(np.sqrt((0.09 + 0.16) / 2))


@pytest.mark.parametrize(("distance", "scale"), [(0.05, 2.06), (0.1, 2 / 1.03), (0.2, 2 / 1.03)])
def test_scale_grows_only_below_the_target_distance(distance, scale):
    assert adapted_scale(2.0, distance, target_distance=0.1, rate=1.03) == pytest.approx(scale)
