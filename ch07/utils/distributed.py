"""Several processes that train one model: their ranks, sums over them, and how they agree.

Each rank takes its share of the rows of every batch, and whatever is a sum over rows is then summed
over ranks. So one process or eight compute the same numbers, up to rounding. `torchrun` starts the
processes and restarts them; without it, every function here treats the process as a group of one.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ch07.utils.errors import RunStoppedError

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes that torchrun started for the block; without torchrun, do nothing.

    RuntimeError, with a message for people, when another process has ended or doesn't answer.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    on_gpu = local_rank < torch.cuda.device_count()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    try:
        store, rank, world_size = next(rendezvous("env://"))
        # A restarted group may get the store of the group before, whose addresses no longer work.
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
        yield
    except RuntimeError as error:
        if is_lost_peer_error(error):
            raise RunStoppedError(lost_peer_message()) from error
        raise
    # Not in a `finally`: after an error the group ends with the process, once the error is printed.
    dist.destroy_process_group()


def get_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def get_world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size() -> int:
    """The number of those processes that run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if dist.is_initialized() else 1


def was_restarted() -> bool:
    """Whether torchrun has restarted this group after one of its processes ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def restarts_allowed() -> bool:
    """Whether torchrun was started with --max-restarts."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def launch_id() -> str:
    """A name shared by all restarts of one torchrun command, and different for any other."""
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return f"{socket.gethostname()} {os.getppid()}" if name == "none" else name


# --- sums and agreement -------------------------------------------------------------------------
def all_reduce_sum(number: Any) -> Any:
    """The sum over all ranks of a number or of a tensor; the result has the type of `number`."""
    if get_world_size() == 1:
        return number
    if isinstance(number, torch.Tensor):
        number = number.detach().clone()
        dist.all_reduce(number)
        return number
    total = torch.tensor(number, dtype=torch.float64)  # on the CPU, so no GPU has to be waited for
    dist.all_reduce(total)
    return type(number)(total.item())


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on any rank."""
    return all_reduce_sum(int(flag)) > 0


def all_ranks_or_raise(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `work(...)` if it succeeds on every rank; otherwise one rank raises its error.

    That is the lowest rank whose work failed; the other ranks exit, see `raise_on_one_rank`.
    """
    if get_world_size() == 1:
        return work(*args, **kwargs)
    result: Any = None
    error = None
    try:
        result = work(*args, **kwargs)
    except Exception as caught:
        error = caught
    failed: list[Any] = [None] * get_world_size()
    dist.all_gather_object(failed, error is not None)
    if not any(failed):
        return result
    raise_on_one_rank(error, raising_rank=failed.index(True))


def raise_on_one_rank(
    error: Exception | None, cause: Exception | None = None, raising_rank: int = 0
) -> NoReturn:
    """Raise `error` on one rank, so that it is printed once; every other rank waits, then exits.

    Every rank calls it. Only `raising_rank` needs an `error`.
    """
    if get_rank() == raising_rank:
        assert error is not None, "the raising rank must have an error"
        raise error from cause
    with suppress(RuntimeError):
        dist.barrier()  # never complete: it fails as soon as the raising rank has ended
    dist.destroy_process_group()
    raise SystemExit(1)


def run_on_rank0(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work(...)` on rank 0 only, and return its result on every rank."""
    if get_world_size() == 1:
        return work(*args, **kwargs)
    result: Any = [all_ranks_or_raise(lambda: work(*args, **kwargs) if get_rank() == 0 else None)]
    dist.broadcast_object_list(result)
    return result[0]


def items_of_rank(items: Sequence[T]) -> Sequence[T]:
    """This rank's share of a list: every `get_world_size()`-th item."""
    return items[get_rank() :: get_world_size()]


def all_gather_list(share: list[T]) -> list[T]:
    """The whole list on every rank, from one result for each of a rank's `items_of_rank`."""
    if get_world_size() == 1:
        return share
    shares: list[Any] = [None] * get_world_size()
    dist.all_gather_object(shares, share)
    whole: list[Any] = [None] * sum(map(len, shares))
    for rank, part in enumerate(shares):
        whole[rank :: get_world_size()] = part
    return whole


def seed_for_rank(seed: int) -> int:
    """A different dropout seed for each rank, so that ranks don't drop the same activations."""
    return (seed + 1_000_003 * get_rank()) % 2**31


def is_lost_peer_error(error: Exception) -> bool:
    """Whether an error means that another rank can't be reached, most often because it ended."""
    return isinstance(error, dist.DistError) or "gloo/transport/" in str(error)


def lost_peer_message() -> str:
    """The message of a rank that can't continue without another one."""
    return (
        f"rank {get_rank()} of {get_world_size()} stopped, since another rank has ended or doesn't "
        "answer"
    )


# --- the model ----------------------------------------------------------------------------------
def distribute_model(model: nn.Module, shard: bool = False) -> nn.Module:
    """Return the model as all ranks train it: its gradients are the mean over ranks.

    By default each rank holds a copy (DistributedDataParallel). With `shard`, each holds a part of
    every weight, and a block's whole weights only while it computes (FSDP2; Zhao et al. 2023,
    "PyTorch FSDP"). Without a process group the model itself is returned.
    """
    if not dist.is_initialized():
        return model
    if not shard:
        return DistributedDataParallel(model, gradient_as_bucket_view=True)
    from torch.distributed.fsdp import fully_shard  # half a second, needed for --shard only

    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (get_world_size(),))
    blocks: Any = model.trf_blocks
    for block in blocks:
        fully_shard(block, mesh=mesh)
    # By default the outermost module, and so the embeddings, would stay whole after an evaluation.
    sharded: Any = fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return sharded


def is_sharded(model: nn.Module) -> bool:
    """Whether each rank holds only a part of the weights."""
    return any(map(is_sharded_tensor, model.parameters()))


def is_sharded_tensor(tensor: torch.Tensor) -> bool:
    """Whether each rank holds only a part of a tensor (one of PyTorch's DTensors)."""
    return hasattr(tensor, "full_tensor")


def gather_full_weight(weight: torch.Tensor) -> torch.Tensor:
    """The whole weight, gathered from all ranks if it is sharded; every rank must call it."""
    weight = weight.detach()
    gather: Any = getattr(weight, "full_tensor", None)
    return weight if gather is None else gather()
