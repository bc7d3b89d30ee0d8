"""One model in one runtime, in a process of its own: seconds to load it and for each of some calls, as JSON."""

import argparse
import json
import time

import numpy as np

CALLS = 7  # after two that are not counted


def opened(way, file, threads):
    """A function that computes logits of a batch. file: the exported model, or for `frozen` the name of a case."""
    if way == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return session.get_inputs()[0].shape, lambda batch: session.run(["logits"], {"images": batch})
    if way == "openvino":
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(file, "CPU", settings)
        return [*compiled.input(0).shape], compiled
    import torch

    import rmeeto

    torch.set_num_threads(threads)
    rmeeto.keep_freed_memory()
    if way == "frozen":
        import export_table

        model = rmeeto.freeze(export_table.built(export_table.CASES[file]))
        shape = [1, *model.config.input_size]
    else:
        program = torch.export.load(file)
        model, shape = program.module(), [1, *program.example_inputs[0][0].shape[1:]]

    def run(batch):
        with torch.inference_mode():
            return model(torch.from_numpy(batch))

    return shape, run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("frozen", "onnxruntime", "openvino", "torch"))
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    start = time.perf_counter()
    shape, run = opened(asked.way, asked.file, asked.threads)
    load_seconds, seconds = time.perf_counter() - start, []
    batch = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for _ in range(2):
        run(batch)
    for _ in range(CALLS):
        start = time.perf_counter()
        run(batch)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"load_seconds": load_seconds, "seconds": seconds}))


if __name__ == "__main__":
    main()
