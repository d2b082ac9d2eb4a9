"""Optimizers and the learning rate as a function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from seqvae.training.settings import CosineConfig, OptimizerConfig, ScheduleConfig


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that a phase names; fused where PyTorch has such a kernel.

    The one of SGD with momentum is left out: it takes no parameters of which some have moved and others have not yet,
    as there are where a method updates one part of the model first.
    """
    parameters = list(parameters)
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if config.name == "adamw":
        return torch.optim.AdamW(
            parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused
        )
    fused = fused and config.momentum == 0
    return torch.optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
    )


def learning_rate(base: float, schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Learning rate of update ``step`` (from 0) of a phase of ``total_steps``; plateau decays are applied elsewhere."""
    if step < schedule.warmup_steps:
        return base * (step + 1) / (schedule.warmup_steps + 1)
    if not isinstance(schedule, CosineConfig):
        return base
    span = max(1, total_steps - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / span)
    return base * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress)))
