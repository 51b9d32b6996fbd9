"""Files of other runtimes, run: LiteRT and ONNX. No TensorFlow here, so that their memory can be measured alone."""

import os
from pathlib import Path

import numpy as np

from utils.quiet import quiet_stderr


class LitertRunner:
    """Runs a .tflite file on `threads` cores."""

    def __init__(self, path: Path, threads: int):
        from ai_edge_litert.interpreter import Interpreter

        with quiet_stderr():  # it tells on standard error that it uses its own delegate
            self._interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        self._input, self._output = (
            details[0]["index"]
            for details in (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        )
        self._batch, self._takes_batches = 1, True

    def __call__(self, examples: np.ndarray) -> np.ndarray:
        if self._takes_batches and len(examples) != self._batch:
            self._takes_batches = self._resize(examples.shape)
        if len(examples) == self._batch:
            return self._run(examples)
        return np.concatenate([self._run(examples[i : i + 1]) for i in range(len(examples))])

    def _run(self, examples: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, examples)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

    def _resize(self, shape: tuple[int, ...]) -> bool:
        """Makes it take batches of this shape; False, and one example at a time, where the graph has 1 built in."""
        for wanted in (shape, (1, *shape[1:])):
            try:
                with quiet_stderr():
                    self._interpreter.resize_tensor_input(self._input, wanted)
                    self._interpreter.allocate_tensors()
                    outputs = self._run(np.zeros(wanted, self._interpreter.get_input_details()[0]["dtype"]))
            except (RuntimeError, ValueError):
                outputs = np.empty(0)
            self._batch = wanted[0]
            if len(outputs) == self._batch:
                break
        return self._batch == shape[0]


class OnnxRunner:
    """Runs an .onnx file on `threads` cores."""

    def __init__(self, path: Path, threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        # Threads that spin after each call would take cores from whatever is measured next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, examples: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: examples})[0]
