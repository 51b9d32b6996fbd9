"""FullPrecisionLearner: trains the dense network."""

from typing import Any

from compressors.graph import prunable_kernels
from learners.learner import Learner


class FullPrecisionLearner(Learner):
    """`--learner full-prec`."""

    def run(self) -> dict[str, Any]:
        model = self.dense_model()
        self.save(model, self.model_path)
        layers = self.kernel_table(model, [kernel.path for kernel in prunable_kernels(model)], {})
        stage = self.run_dir.stages()["dense"]
        was_trained = "iterations" in stage
        training = {key: stage[key] for key in ("iterations", "seconds", "images_per_second")} if was_trained else None
        return self.report(model, {"layers": layers, "training": training})
