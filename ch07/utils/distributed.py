"""Several processes that train one model: who is who, and what is summed over all of them.

The one idea: a batch is a batch, whoever computes it. Each rank takes its share of the rows of
every batch, and what is a sum over rows is summed over ranks too; so one process or eight compute
the same numbers, up to rounding. `torchrun` starts the processes and restarts them; without it
every function here is that of a group of one.
"""

import os
import socket
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def process_group():
    """The processes that torchrun started are a group inside; without torchrun, nothing happens."""
    if not dist.is_torchelastic_launched():
        yield
        return
    on_gpu = int(os.environ["LOCAL_RANK"]) < torch.cuda.device_count()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, number, n = next(dist.rendezvous("env://"))
    # a restarted group may be given the store of the one before, with addresses that nobody answers
    store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=n)
    try:
        yield
    except RuntimeError as error:
        if is_lost_peer_error(error):
            raise RuntimeError(lost_peer_message()) from error
        raise
    dist.destroy_process_group()  # after an error the end of the process does it, once all is told


def get_rank():
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def get_world_size():
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size():
    """How many of them share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if dist.is_initialized() else 1


def was_restarted():
    """Whether torchrun started this group anew, after one of its processes had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def restarts_allowed():
    """Whether torchrun was asked to, with --max-restarts."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def launch_id():
    """What is the same for all starts of one torchrun command, and different for another."""
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return f"{socket.gethostname()} {os.getppid()}" if name == "none" else name


# --- sums and agreements ------------------------------------------------------------------------
def all_reduce_sum(number):
    """The sum over all ranks of a number, or of a tensor that holds one."""
    if get_world_size() == 1:
        return number
    if isinstance(number, torch.Tensor):
        number = number.detach().clone()
        dist.all_reduce(number)
        return number
    wide = torch.tensor(number, dtype=torch.float64)  # on the CPU: no GPU is waited for
    dist.all_reduce(wide)
    return type(number)(wide.item())


def any_rank(flag):
    """Whether it is true on any rank."""
    return all_reduce_sum(int(flag)) > 0


def all_ranks_or_raise(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work(...)` returns, if it succeeds on every rank; else its error, reported once.

    The lowest rank that failed raises its error; see `raise_on_one_rank`.
    """
    if get_world_size() == 1:
        return work(*args, **kwargs)
    result = error = None
    try:
        result = work(*args, **kwargs)
    except Exception as caught:
        error = caught
    failed = [None] * get_world_size()
    dist.all_gather_object(failed, error is not None)
    if not any(failed):
        return result
    return raise_on_one_rank(error, teller=failed.index(True))


def raise_on_one_rank(error, cause=None, teller=0):
    """Raise an error that all ranks came to; the others wait until one has told it, and exit."""
    if get_rank() == teller:
        raise error from cause
    with suppress(RuntimeError):
        dist.barrier()  # never complete: it ends when the one that tells is gone
    dist.destroy_process_group()
    raise SystemExit(1)


def run_on_rank0(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work(...)` returns, on every rank; only rank 0 does the work."""
    if get_world_size() == 1:
        return work(*args, **kwargs)
    result = [all_ranks_or_raise(lambda: work(*args, **kwargs) if get_rank() == 0 else None)]
    dist.broadcast_object_list(result)
    return result[0]


def items_of_rank(items):
    """Those items of a list that are this rank's to work on."""
    return items[get_rank() :: get_world_size()]


def all_gather_list(mine):
    """The whole list, on every rank, from what became of each rank's `items_of_rank`."""
    if get_world_size() == 1:
        return mine
    shares = [None] * get_world_size()
    dist.all_gather_object(shares, mine)
    whole = [None] * sum(map(len, shares))
    for number, part in enumerate(shares):
        whole[number :: get_world_size()] = part
    return whole


def seed_for_rank(seed):
    """A seed of this rank's own, for dropout: rows on two ranks must not lose the same numbers."""
    return (seed + 1_000_003 * get_rank()) % 2**31


def is_lost_peer_error(error):
    """Whether an error says that another rank can't be reached: most often, it has died."""
    return isinstance(error, dist.DistError) or "gloo/transport/" in str(error)


def lost_peer_message():
    """What a rank says that can't go on without another."""
    return (
        f"rank {get_rank()} of {get_world_size()} stopped, since another rank has ended or doesn't "
        "answer"
    )


# --- the model ----------------------------------------------------------------------------------
def distribute_model(model, shard=False):
    """The model as all ranks train it: its gradients are the mean over ranks.

    Each rank has a copy (DistributedDataParallel), or with `shard` a part of every weight, and the
    rest for as long as a block needs it (FSDP2: Zhao et al. 2023, "PyTorch FSDP").
    """
    if not dist.is_initialized():
        return model
    if not shard:
        return DistributedDataParallel(model, gradient_as_bucket_view=True)
    from torch.distributed.fsdp import fully_shard  # takes half a second, which others are spared

    device = next(model.parameters()).device.type
    mesh = dist.init_device_mesh(device, (get_world_size(),))
    for block in model.trf_blocks:
        fully_shard(block, mesh=mesh)
    # the default would leave the embeddings whole after an evaluation
    return fully_shard(model, mesh=mesh, reshard_after_forward=True)


def is_sharded(model):
    """Whether each rank holds a part of the weights only."""
    return any(map(is_sharded_tensor, model.parameters()))


def is_sharded_tensor(tensor):
    """Whether the ranks hold parts of a tensor: whether it is a DTensor of PyTorch."""
    return hasattr(tensor, "full_tensor")


def gather_full_weight(weight):
    """A weight, put together if the ranks hold parts of it; every rank must ask."""
    weight = weight.detach()
    return weight.full_tensor() if is_sharded_tensor(weight) else weight
