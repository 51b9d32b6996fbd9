import pytest

from learners.config import RunConfig, RunOptions
from learners.scheduled.config import DistillationConfig, ScheduleConfig
from learners.weight_sparsification.config import WeightSparseConfig
from utils.errors import InputError

SPARSE, SCHEDULED = RunOptions(learner="weight-sparse"), RunOptions(learner="scheduled")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            RunConfig(RunOptions(learner="weight-sparse", warm_start=False)),
            "--ws_train_init must be dense with --noenbl_warm_start. Received: path",
        ),
        (RunConfig(SPARSE, schedule=ScheduleConfig(compress="a.yaml")), "--compress needs --learner scheduled"),
        (RunConfig(SPARSE, schedule=ScheduleConfig(dry_run=True)), "--dry_run needs --learner scheduled"),
        (
            RunConfig(SPARSE, distillation=DistillationConfig(teacher="resnet_56", resume="t.keras")),
            "--kd_teacher needs --learner scheduled. Received: --learner weight-sparse",
        ),
        (RunConfig(SCHEDULED), "--learner scheduled needs --compress FILE, or a --kd_teacher. Received: neither"),
        (
            RunConfig(SCHEDULED, distillation=DistillationConfig(teacher="resnet_56")),
            "--kd_teacher needs its weights by --kd_resume or --kd_pretrained. Received: neither",
        ),
        (
            RunConfig(SCHEDULED, distillation=DistillationConfig(teacher="a", resume="b", pretrained=True)),
            "Received: both",
        ),
        (RunConfig(SCHEDULED, distillation=DistillationConfig(resume="b")), "need --kd_teacher. Received: none"),
    ],
)
def test_flags_of_different_groups_that_do_not_fit_are_refused(config, message):
    with pytest.raises(InputError) as error:
        config.check()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(SPARSE),
        RunConfig(
            RunOptions(learner="weight-sparse", warm_start=False), weight_sparse=WeightSparseConfig(train_init="dense")
        ),
        RunConfig(SCHEDULED, schedule=ScheduleConfig(compress="a.yaml")),
        RunConfig(SCHEDULED, distillation=DistillationConfig(teacher="resnet_56", pretrained=True)),
    ],
)
def test_flags_that_fit_are_taken(config):
    config.check()
