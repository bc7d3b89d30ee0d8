"""One version of rmeeto under benchmarks/versions.py: a setting as JSON is built; then each line is one timed pass."""

import json
import sys
import time
import warnings

import torch

import rmeeto
from rmeeto.reduction import TokenMerge

warnings.simplefilter("ignore")
torch.set_num_threads(2)


def work_of(setting):
    reduction = TokenMerge(r=setting["r"]) if setting["r"] else None
    torch.manual_seed(0)
    dtype = getattr(torch, setting["dtype"])
    model = rmeeto.create_model(setting["model"], reduction=reduction).to(dtype)
    images = torch.randn(setting["batch"], *model.config.input_size, dtype=dtype)
    if setting["kind"] == "frozen":
        frozen = rmeeto.freeze(model.eval())

        def look():
            with torch.inference_mode():
                frozen(images)

        return look
    labels = torch.randint(0, 1000, (len(images),))
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-5)

    def learn():
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return learn


work = None
for line in sys.stdin:
    if line.strip() != "time":
        work = work_of(json.loads(line))
        for _ in range(3):
            work()
        print("ready", flush=True)
        continue
    started = time.perf_counter()
    work()
    print(time.perf_counter() - started, flush=True)
