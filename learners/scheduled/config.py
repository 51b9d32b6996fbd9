"""Flags of the scheduled learner."""

from dataclasses import dataclass

from utils.errors import InputError
from utils.flags import flag


@dataclass(frozen=True)
class ScheduleConfig:
    """Compression schedule (--learner scheduled)"""

    # Not the file's name but its content is part of a run's identity.
    compress: str = flag("", "the schedule, a YAML file: see docs/schedules.md", affects_result=False)
    num_epochs: int = flag(
        0, "epochs of training under the schedule; 0: as many as the dense network's", name="nb_epochs", minimum=0
    )
    dry_run: bool = flag(False, "print what the schedule will do, and do nothing; needs no data", affects_result=False)


@dataclass(frozen=True)
class DistillationConfig:
    """Distillation (--learner scheduled)"""

    teacher: str = flag("", "network of the teacher, such as resnet_56", name="kd_teacher")
    resume: str = flag("", "the teacher's weights: a .keras file", name="kd_resume")
    pretrained: bool = flag(
        False, "the teacher's weights: of its --learner full-prec run, or at --model_http_url", name="kd_pretrained"
    )
    temperature: float = flag(1.0, "softens the outputs of both networks", name="kd_temperature", above=0)
    distill_weight: float = flag(0.5, "weight of the loss against the teacher", name="kd_distill_wt", minimum=0)
    student_weight: float = flag(0.5, "weight of the loss against the labels", name="kd_student_wt", minimum=0)
    teacher_weight: float = flag(0.0, "weight of the teacher's own loss, a constant", name="kd_teacher_wt", minimum=0)
    start_epoch: int = flag(0, "the first epoch with distillation", name="kd_start_epoch", minimum=0)

    def check(self) -> None:
        """Raises InputError where the flags do not go together."""
        if self.teacher and self.pretrained == bool(self.resume):
            received = "both" if self.resume else "neither"
            raise InputError(f"--kd_teacher needs its weights by --kd_resume or --kd_pretrained. Received: {received}")
        if not self.teacher and (self.pretrained or self.resume):
            raise InputError("--kd_pretrained and --kd_resume need --kd_teacher. Received: none")
