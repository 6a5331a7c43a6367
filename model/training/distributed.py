"""The processes of a run, started by ``torchrun``, and their collective operations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from osa.model.errors import ConfigError, OsaError
from osa.model.streaming.parallel import SequenceGroup

TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others: longer than process 0 evaluates."""
PREPARATION_TIMEOUT = timedelta(days=2)
"""How long they wait while process 0 prepares the data."""


class PeerError(OsaError):
    """Another process of the run ended, or cannot be reached."""

    code = "peer"


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: Number of this process, from 0.
        world_size: Number of processes.
        device: Device of this process.
        group: Of ``torch.distributed``; None for all processes.
    """

    rank: int
    world_size: int
    device: torch.device
    group: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process evaluates, logs and saves."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world_size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def max(self, count: int) -> int:
        """The largest of a number over all processes."""
        if self.world_size == 1:
            return count
        largest = torch.tensor([count], device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX, self.group)
        return int(largest)

    def gather(self, values: Tensor) -> Tensor:
        """Tensors of all processes [n, ...] concatenated; they may differ in length."""
        if self.world_size == 1:
            return values
        lengths = torch.zeros(self.world_size, dtype=torch.int64, device=values.device)
        lengths[self.rank] = len(values)
        sizes: list[int] = self.sum(lengths).tolist()
        padded = values.new_zeros(max(sizes), *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, self.group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Process 0 runs the block before the others do."""
        if self.world_size == 1:
            yield
            return
        patient = dist.new_group(timeout=PREPARATION_TIMEOUT, backend="gloo")
        if not self.is_main:
            dist.barrier(patient)
        yield
        if self.is_main:
            dist.barrier(patient)
        dist.barrier(patient)
        dist.destroy_process_group(patient)

    def barrier(self) -> None:
        """Wait until all processes have called it."""
        if self.world_size > 1:
            dist.barrier()


def divide(processes: Processes, size: int) -> tuple[Processes, SequenceGroup | None]:
    """Groups of ``size`` neighbouring processes that share each sequence.

    Args:
        processes: All of the run.
        size: Of a group; 1 for none.

    Returns:
        Those that have other sequences, one of each group; and those that share this process's,
        None where it shares none.

    Raises:
        ConfigError: The processes are no whole number of groups.
    """
    if size == 1:
        return processes, None
    world, rank = processes.world_size, processes.rank
    if world % size:
        raise ConfigError(
            f"sequence_parallel ({size}) must divide the number of processes ({world}): start "
            "osa train under torchrun with so many"
        )
    together = [list(range(first, first + size)) for first in range(0, world, size)]
    apart = [list(range(place, world, size)) for place in range(size)]
    own = [None if len(ranks) == world else dist.new_group(ranks) for ranks in together]
    others = [dist.new_group(ranks) for ranks in apart]  # all processes make all groups
    data = Processes(rank // size, world // size, processes.device, others[rank % size])
    return data, SequenceGroup(own[rank // size])


@contextmanager
def process_group() -> Iterator[Processes]:
    """Join the processes that ``torchrun`` describes in the environment; without it, one process.

    Raises:
        PeerError: The others cannot be reached.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else None
    if device is not None:
        torch.cuda.set_device(device)
    processes = Processes(rank, world, device or torch.device("cpu"))
    if world == 1:
        yield processes
        return
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"process {rank} of {world} cannot reach the others: {error}") from error
    try:
        yield processes
    finally:
        dist.destroy_process_group()


def is_peer_loss(error: RuntimeError) -> bool:
    """Whether a collective operation failed because another process ended."""
    lost = ("Connection closed by peer", "Connection reset", "Broken pipe", "Timed out", "NCCL")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in lost)
