"""Trains a toy model by DeepSpeed over gloo; the first of all processes says how it went.

--until FILE: goes on until FILE exists.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import deepspeed
import torch

deepspeed.ops.__compatible_ops__.clear()  # it would compile an operation, and the image has no compiler
CONFIG = {
    "train_micro_batch_size_per_gpu": 16,
    "optimizer": {"type": "Adam", "params": {"lr": 0.1, "torch_adam": True}},
}


def is_there(path: Path) -> bool:
    """Tell whether the first process sees `path`, to all processes alike."""
    seen = torch.tensor([int(path.exists())])
    torch.distributed.broadcast(seen, src=0)
    return bool(seen.item())


def main() -> None:
    """Train in all processes that DeepSpeed's launcher has started."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank")  # of the launcher
    parser.add_argument("--until", type=Path)
    until = parser.parse_args().until
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(torch.distributed.get_rank())
    model = torch.nn.Linear(4, 1)
    engine, _optimizer, _data, _schedule = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=CONFIG
    )

    def step() -> float:
        inputs = torch.randn(16, 4)
        loss = torch.nn.functional.mse_loss(engine(inputs), inputs.sum(dim=1, keepdim=True))
        engine.backward(loss)
        engine.step()
        return float(loss.item())

    losses = [step() for _number in range(100)]
    if torch.distributed.get_rank() == 0:
        learned = losses[-1] < losses[0] / 10
        print(f"{torch.distributed.get_world_size()} processes, learned: {learned}", flush=True)
    while until is not None and not is_there(until):
        step()
        time.sleep(0.5)
    # DeepSpeed keeps its process groups. If their threads still run when Python finalizes, the process aborts.
    os._exit(0)


if __name__ == "__main__":
    main()
