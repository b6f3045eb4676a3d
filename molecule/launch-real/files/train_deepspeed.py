"""Trains a toy model by DeepSpeed over gloo; the first of all processes says how it went."""

import deepspeed
import torch

deepspeed.ops.__compatible_ops__.clear()  # it would compile an operation, and the image has no compiler
CONFIG = {
    "train_micro_batch_size_per_gpu": 16,
    "optimizer": {"type": "Adam", "params": {"lr": 0.1, "torch_adam": True}},
}


def main() -> None:
    """Train in all processes that DeepSpeed's launcher has started."""
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(torch.distributed.get_rank())
    model = torch.nn.Linear(4, 1)
    engine, _optimizer, _data, _schedule = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=CONFIG
    )
    losses = []
    for _step in range(100):
        inputs = torch.randn(16, 4)
        loss = torch.nn.functional.mse_loss(engine(inputs), inputs.sum(dim=1, keepdim=True))
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    if torch.distributed.get_rank() == 0:
        learned = losses[-1] < losses[0] / 10
        print(f"{torch.distributed.get_world_size()} processes, learned: {learned}", flush=True)


if __name__ == "__main__":
    main()
