"""Where a training runs: the one place in which a plain module meets devices, precision and other processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint import state_dict as gathered
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from medaudit.errors import UsageError
from medaudit.training.settings import TrainingSettings

_WHOLE = gathered.StateDictOptions(full_state_dict=True, cpu_offload=True)
_SHARED_OUT = gathered.StateDictOptions(full_state_dict=True)


def start(settings: TrainingSettings) -> Fabric:
    """Return the running Fabric of these settings; with more than one device its processes have been started.

    Under ``torchrun`` or SLURM it joins the processes that are there. Otherwise it starts the same program again, once
    for each further device.

    Raises UsageError where the machine has no such device or the batch cannot be dealt evenly.
    """
    ranks = settings.devices * settings.nodes
    if settings.batch_size % ranks:
        raise UsageError(f"a batch of {settings.batch_size} cannot be dealt evenly to {ranks} processes")
    try:
        with warnings.catch_warnings():
            # It advises several loader processes wherever there are cores; how many is the user's choice.
            warnings.filterwarnings("ignore", category=UserWarning, module="lightning_fabric")
            fabric = Fabric(
                accelerator=settings.accelerator,
                devices=settings.devices,
                num_nodes=settings.nodes,
                strategy=_sharded(settings) if settings.strategy == "fsdp" else settings.strategy,
                precision=settings.precision,  # type: ignore[arg-type]
            )
    except Exception as error:  # Fabric has no error of its own: ValueError, RuntimeError, MisconfigurationException
        raise UsageError(f"cannot train on this device: {str(error).strip().splitlines()[0]}") from error
    fabric.launch()
    return fabric


def _sharded(settings: TrainingSettings) -> ModelParallelStrategy:
    """Return FSDP2: each parameter is cut along its first axis, block by block, and gathered where it is used.

    Parameter by parameter, so that a teacher's pieces lie where its student's do.
    """

    def shard(model: nn.Module, mesh: Any) -> nn.Module:
        for module in list(model.modules()):
            if isinstance(module, nn.ModuleList):
                for block in module:
                    fully_shard(block, mesh=mesh["data_parallel"])
        fully_shard(model, mesh=mesh["data_parallel"])
        return model

    ranks = settings.devices * settings.nodes
    return ModelParallelStrategy(parallelize_fn=shard, data_parallel_size=ranks, tensor_parallel_size=1)


def set_up(fabric: Fabric, model: nn.Module, optimizer_for: Callable[[nn.Module], Optimizer]) -> tuple[Any, Any]:
    """Return the model and its optimiser as the strategy wants them; the optimiser comes after sharding."""
    if isinstance(fabric.strategy, ModelParallelStrategy):
        network = fabric.setup_module(model)
        return network, fabric.setup_optimizers(optimizer_for(model))
    return fabric.setup(model, optimizer_for(model))


@contextmanager
def reproducible(fabric: Fabric, deterministic: bool) -> Iterator[None]:
    """Let torch choose kernels that give the same bits again; the caller gets its settings and random state back."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills: Any = torch.utils.deterministic
    cudnn, fill = torch.backends.cudnn.benchmark, fills.fill_uninitialized_memory
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            if deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when CUDA starts
                torch.use_deterministic_algorithms(True, warn_only=True)
                fills.fill_uninitialized_memory = False  # it costs time, and nothing here reads what was not written
            torch.backends.cudnn.benchmark = not deterministic
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark, fills.fill_uninitialized_memory = cudnn, fill


@contextmanager
def one_thread(accelerator: str) -> Iterator[None]:
    """On a CPU compute with one thread: sums are then rounded alike however many processes share the cores."""
    before = torch.get_num_threads()
    if accelerator == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step: dropout and drawn noise follow from (seed, step, rank), so no state must be saved."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1))


def _parallel(model: nn.Module) -> nn.Module:
    """Return the module as the strategy wrapped it; Fabric's own wrapper hides it, and its shards must be gathered."""
    return getattr(model, "_forward_module", model)


def weights_of(model: nn.Module) -> dict[str, Any]:
    """Return a copy of all parameters and buffers on the CPU, under the plain module's names; every process calls."""
    weights: dict[str, Any] = gathered.get_model_state_dict(_parallel(model), options=_WHOLE)
    # What is on the CPU already comes as it is, not copied, and the next step would change it.
    return {name: value.clone() for name, value in weights.items()}


def set_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load what ``weights_of`` returned."""
    gathered.set_model_state_dict(_parallel(model), dict(weights), options=_SHARED_OUT)


def optimizer_state_of(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return the optimiser's whole state on the CPU, under the parameters' names; every process calls."""
    return gathered.get_optimizer_state_dict(_parallel(model), optimizer.optimizer, options=_WHOLE)  # type: ignore


def set_optimizer_state(model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load what ``optimizer_state_of`` returned."""
    gathered.set_optimizer_state_dict(_parallel(model), optimizer.optimizer, state, options=_SHARED_OUT)  # type: ignore
