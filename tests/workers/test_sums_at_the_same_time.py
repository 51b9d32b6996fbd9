"""Three workers give the same bits each time: of two the order of a sum is no matter, of three it is."""

from tests.workers.two_processes import needs_horovod, run_together

pytestmark = needs_horovod


def test_a_mean_of_three_does_not_depend_on_what_else_is_exchanged(tmp_path):
    for found in run_together("sums_at_the_same_time", tmp_path, size=3, timeout=900):
        assert found["is_each_sum_its_own"] == 20
