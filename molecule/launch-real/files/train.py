"""Trains a toy model by PyTorch's DistributedDataParallel over gloo; the first of all processes says how it went."""

import os

import torch
import torch.distributed


def main() -> None:
    """Train in all processes that torchrun has started."""
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(int(os.environ["RANK"]))  # each has data of its own
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _step in range(100):
        inputs = torch.randn(16, 4)
        loss = torch.nn.functional.mse_loss(model(inputs), inputs.sum(dim=1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if torch.distributed.get_rank() == 0:
        learned = losses[-1] < losses[0] / 10
        print(f"{torch.distributed.get_world_size()} processes, learned: {learned}", flush=True)
    torch.distributed.destroy_process_group()


main()
