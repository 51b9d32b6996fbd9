"""Flags of a run as a whole, and RunConfig: every flag of every group. No TensorFlow here: `--help` reads this."""

from dataclasses import dataclass, field

from export.config import ExportConfig, parse_formats
from learners.lottery_ticket.config import LotteryTicketConfig
from learners.scheduled.config import DistillationConfig, ScheduleConfig
from learners.weight_sparsification.config import WeightSparseConfig
from nets.config import NetConfig
from rl_agents.ddpg.config import DdpgConfig
from utils.errors import InputError
from utils.flags import flag

LEARNERS = ("full-prec", "weight-sparse", "scheduled", "lottery-ticket")


@dataclass(frozen=True)
class RunOptions:
    """Run"""

    learner: str = flag("full-prec", "what to do with the network", choices=LEARNERS)
    exec_mode: str = flag("train", "train, or evaluate a saved model", choices=("train", "eval"), affects_result=False)
    run_dir: str = flag("", "run directory [runs/<model>_at_<dataset>/<learner>]", affects_result=False)
    overwrite: bool = flag(False, "delete what is in the run directory first", affects_result=False)
    seed: int = flag(0, "seed of everything random", minimum=0)
    enbl_multi_gpu: bool = flag(
        False, "this process is one of several (run_local.sh -n=N says so)", affects_result=False
    )
    worker_timeout: int = flag(
        300,
        "seconds that workers wait for one another; must be more than one roll-out or finalist takes",
        minimum=1,
        affects_result=False,
    )
    save_path: str = flag(
        "", "the dense model: taken from there if it exists, else trained and kept there [<run_dir>/dense/model.keras]"
    )
    save_path_eval: str = flag(
        "", "the model that --exec_mode eval evaluates [<run_dir>/model.keras]", affects_result=False
    )
    model_http_url: str = flag(
        "",
        "where to fetch the dense model if --save_path has none: a .keras file, or the folder of such files; behind a "
        "file's address #sha256=... is the checksum that it must have",
    )
    allow_plain_http: bool = flag(
        False, "--model_http_url may be http://, which anyone on the way can change", affects_result=False
    )
    warm_start: bool = flag(
        True, "start the final training from the dense model, not from new weights", name="enbl_warm_start"
    )
    log_dir: str = flag("", "TensorBoard events [<run_dir>/tensorboard]", affects_result=False)
    summary_interval: int = flag(
        20, "training steps between two lines of the log", name="summ_step", minimum=1, affects_result=False
    )
    save_interval: int = flag(
        100, "training steps between two checkpoints", name="save_step", minimum=1, affects_result=False
    )
    quiet: bool = flag(False, "print only the result", affects_result=False)
    debug: bool = flag(False, "show the traceback of an error", affects_result=False)


@dataclass(frozen=True)
class TeacherConfig:
    """Distillation of the compressed network"""

    enabled: bool = flag(False, "the compressed network also learns from the dense one's outputs", name="enbl_dst")
    loss_weight: float = flag(4.0, "weight of the loss against the teacher", name="loss_w_dst", minimum=0)
    temperature: float = flag(4.0, "softens the outputs of both networks", name="tempr_dst", above=0)
    # Not the file's name but its content is part of a run's identity.
    path: str = flag(
        "", "the teacher, a .keras file [the run's own dense network]", name="save_path_dst", affects_result=False
    )
    resnet_size: int = flag(
        0, "the teacher is a ResNet of so many layers [that of the network]", name="dst_resnet_size", minimum=0
    )


@dataclass(frozen=True)
class RunConfig:
    """Everything a learner is told."""

    run: RunOptions = field(default_factory=RunOptions)
    net: NetConfig = field(default_factory=NetConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    weight_sparse: WeightSparseConfig = field(default_factory=WeightSparseConfig)
    ddpg: DdpgConfig = field(default_factory=DdpgConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    lottery_ticket: LotteryTicketConfig = field(default_factory=LotteryTicketConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def check(self) -> None:
        """Raises InputError where flags do not fit together."""
        self.weight_sparse.check()
        self.distillation.check()
        parse_formats(self.export.formats, "--export_formats")
        self._check_teacher()
        if not self.run.warm_start and self.weight_sparse.train_init == "path" and self.run.learner == "weight-sparse":
            raise InputError("--ws_train_init must be dense with --noenbl_warm_start. Received: path")
        is_given = {
            "--compress": self.schedule.compress,
            "--dry_run": self.schedule.dry_run,
            "--nb_epochs": self.schedule.num_epochs,
            "--kd_teacher": self.distillation.teacher,
        }
        if self.run.learner != "scheduled" and any(is_given.values()):
            name = next(name for name, value in is_given.items() if value)
            raise InputError(f"{name} needs --learner scheduled. Received: --learner {self.run.learner}")
        if self.run.learner == "scheduled" and not (self.schedule.compress or self.distillation.teacher):
            raise InputError("--learner scheduled needs --compress FILE, or a --kd_teacher. Received: neither")

    def _check_teacher(self) -> None:
        given = {"--save_path_dst": self.teacher.path, "--dst_resnet_size": self.teacher.resnet_size}
        for name in (name for name, value in given.items() if value and not self.teacher.enabled):
            raise InputError(f"{name} needs --enbl_dst. Received: {given[name]}")
        if self.teacher.enabled and self.run.learner == "full-prec":
            raise InputError(
                "--enbl_dst needs --learner weight-sparse, scheduled or lottery-ticket: the dense network is the "
                "teacher. Received: --learner full-prec"
            )
        if self.teacher.enabled and self.distillation.teacher:
            raise InputError("--enbl_dst and --kd_teacher each bring a teacher: one of them must go. Received: both")
