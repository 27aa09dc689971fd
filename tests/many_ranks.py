"""Groups of processes that train together, as torchrun would start them, but forked: no imports.

    python tests/many_ranks.py FOLDER

The one idea: a process that has imported PyTorch but computed nothing forks one child per rank.
Each job writes FOLDER/JOB.json: the losses of a short training run, and what came of it.
"""

import json
import math
import os
import socket
import sys
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch._dynamo  # these three once here, not in each child
import torch.distributed.checkpoint
import torch.distributed.fsdp
from torch.utils.data import Dataset

from ch07.config import FinetuneOptions
from ch07.data.dataloader import make_loader
from ch07.models.adapters import add_adapter
from ch07.runs.checkpoint import load_checkpoint, save_checkpoint
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.optimizers import choose_optimizer
from ch07.training.shared_beginning import sum_loss_with_shared_beginning
from ch07.utils import distributed
from gpt_model import GPTModel
from train_loop import TrainSettings, TrainState, train_model

CONFIG = {"vocab_size": 50257, "context_length": 32, "emb_dim": 8, "n_heads": 2, "n_layers": 2}
LR = 3e-2
EPOCHS, HALF = 2, 5  # an epoch has 4 steps


class Rows(Dataset):
    """19 rows in batches of 6: the last has one row, so that three of four ranks have none."""

    def __init__(self, n=19):
        stream = torch.Generator().manual_seed(0)
        self.lengths = torch.randint(3, 20, (n,), generator=stream).tolist()
        beginning = torch.randint(0, 97, (6,), generator=stream).tolist()  # of every row
        self.rows = [
            beginning + torch.randint(0, 97, (n,), generator=stream).tolist() for n in self.lengths
        ]
        self.lengths = [len(row) for row in self.rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def train(
    folder,
    shard=False,
    optimizer="adamw",
    accumulation=1,
    begin=None,
    steps=None,
    method="full",
    shared=False,
):
    """Train, from a checkpoint in `begin` if given, and leave one in `folder`: what came of it."""
    model = GPTModel(CONFIG, torch.Generator().manual_seed(0))
    short = {"prefix_length": 4} if method == "prefix" else {}  # of a context of 32
    model = add_adapter(model, FinetuneOptions(method=method, model="gpt2-small", **short))
    trained = distributed.distribute_model(model, shard)
    if optimizer == "sgd":  # AdamW would forgive a gradient that is twice too long
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    else:
        optimizer = choose_optimizer(optimizer, model, LR, 0.1)
    state = TrainState() if begin is None else load_checkpoint(begin, model, optimizer)[0]
    options = {"share": (distributed.get_rank(), distributed.get_world_size()), "batch_size": 6}
    loader = make_loader(Rows(), seed=5, **options)
    settings = TrainSettings(
        num_epochs=EPOCHS,
        peak_lr=LR,
        grad_clip=math.inf,
        eval_freq=4,
        eval_iter=None,
        accumulation_steps=accumulation,
        cross_entropy=summed_cross_entropy_in_place,
        reduce=distributed.all_reduce_sum,
    )
    if shared:
        batch_loss = partial(
            sum_loss_with_shared_beginning,
            prefix_length=short.get("prefix_length", 0),
        )
        settings = replace(settings, batch_loss=batch_loss)
    held_out = make_loader(Rows(8), **options)
    state = train_model(
        trained,
        loader,
        held_out,
        optimizer,
        settings=settings,
        state=state,
        on_step=lambda state: state.step == steps,
        progress=False,
    )
    save_checkpoint(folder, model, optimizer, state)
    weights = {
        name: distributed.gather_full_weight(weight) for name, weight in model.named_parameters()
    }
    return {
        "losses": [(r["step"], r["train_loss"], r["val_loss"]) for r in state.history],
        "tokens": state.tokens_seen,
        "weights": {name: w.norm().item() for name, w in weights.items()},
        "seed": distributed.seed_for_rank(1),
        "parts": sum(p.to_local().numel() for p in model.parameters()) if shard else None,
    }


def talk(folder):
    """What the ranks tell each other."""
    me = distributed.get_rank()
    seen = {"first": distributed.run_on_rank0(lambda: me), "size": distributed.get_world_size()}
    seen["total"] = (
        distributed.all_reduce_sum(me + 1),
        distributed.all_reduce_sum(0.5),
        distributed.all_reduce_sum(torch.tensor(2.0)).item(),
    )
    seen["any"] = distributed.any_rank(me == 1), distributed.any_rank(False)
    seen["joined"] = distributed.all_gather_list(
        [10 * i for i in distributed.items_of_rank(list(range(7)))]
    )
    return distributed.all_gather_list([seen])


def fail(folder):
    """Rank 1 fails in what all agree on."""
    (folder / f"rank{distributed.get_rank()}").write_text("began", encoding="utf-8")
    distributed.all_ranks_or_raise(lambda: 1 / (distributed.get_rank() - 1))


def work(rank, size, port, folder, name, job, options):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_PORT": port}
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0"}
    with distributed.process_group():
        result = job(folder / name, **options)
        if rank == 0:
            (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def together(size, *given):
    """Fork `size` ranks; their exit codes."""
    port, children = free_port(), []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(rank, size, port, *given)
                code = 0
            except SystemExit as ended:
                code = 10 + ended.code
            except ZeroDivisionError:
                code = 20
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main(folder):
    torch.set_num_threads(1)
    codes = {}

    def do(name, size, job=train, **options):
        (folder / name).mkdir()
        codes[name] = together(size, folder, name, job, options)

    for size in (1, 2, 4):
        do(f"copies{size}", size, optimizer="sgd", accumulation=2)
    do("alone", 1)
    do("muon", 1, optimizer="muon")
    do("half_copies", 2, steps=HALF)
    do("half_parts", 2, shard=True, steps=HALF)
    do("copies_then_parts", 4, begin=folder / "half_copies", shard=True)
    do("parts_then_parts", 4, begin=folder / "half_parts", shard=True)
    do("parts_then_alone", 1, begin=folder / "half_parts")
    do("muon_parts", 2, optimizer="muon", shard=True)
    do("shared2", 2, shared=True)
    do("shared_parts", 2, shared=True, shard=True)
    do("shared_prefix", 2, shared=True, method="prefix")
    for method in ("lora", "prefix"):
        do(f"{method}1", 1, method=method)
        do(f"{method}2", 2, method=method)
    do("talk3", 3, talk)
    do("fail3", 3, fail)
    (folder / "codes.json").write_text(json.dumps(codes), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
