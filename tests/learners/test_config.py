import pytest

from learners.config import RunConfig, RunOptions, TeacherConfig
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
        (
            RunConfig(teacher=TeacherConfig(enabled=True)),
            "--enbl_dst needs --learner weight-sparse, scheduled or lottery-ticket: the dense network is the teacher",
        ),
        (RunConfig(SPARSE, teacher=TeacherConfig(path="t.keras")), "--save_path_dst needs --enbl_dst"),
        (RunConfig(SPARSE, teacher=TeacherConfig(resnet_size=56)), "--dst_resnet_size needs --enbl_dst. Received: 56"),
        (
            RunConfig(
                SCHEDULED,
                teacher=TeacherConfig(enabled=True),
                distillation=DistillationConfig(teacher="resnet_56", pretrained=True),
            ),
            "--enbl_dst and --kd_teacher each bring a teacher: one of them must go",
        ),
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
        RunConfig(SPARSE, teacher=TeacherConfig(enabled=True, path="t.keras", resnet_size=56)),
        RunConfig(
            RunOptions(learner="weight-sparse", warm_start=False), weight_sparse=WeightSparseConfig(train_init="dense")
        ),
        RunConfig(SCHEDULED, schedule=ScheduleConfig(compress="a.yaml")),
        RunConfig(SCHEDULED, distillation=DistillationConfig(teacher="resnet_56", pretrained=True)),
    ],
)
def test_flags_that_fit_are_taken(config):
    config.check()
