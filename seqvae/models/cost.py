"""What a model costs by count: floating-point operations, and bytes that cannot but pass through the memory.

A multiplication and an addition are two operations; what is not a product of matrices is left out (a few per cent).
Bytes are those of weights and of their gradients, moments and updates in fp32: whatever else is read or written can
stay in a cache. No program can be faster than these counts over what the machine does at its best.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from seqvae.machine import Ceiling
from seqvae.models.recurrent import Cell
from seqvae.models.vae import ModelConfig

_FP32 = 4.0
_GATES: Mapping[Cell, int] = {"lstm": 4, "gru": 3}

_ADAMW = 7
"""Numbers that pass for each parameter: weight, gradient and two moments are read, all but the gradient written."""


@dataclass(frozen=True)
class Work:
    """Operations, and bytes through the memory."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def seconds(self, flops_per_s: float, bytes_per_s: float) -> float:
        """The least time: whichever of the two takes longer (Williams et al. 2009, the roofline)."""
        return max(self.flops / flops_per_s, self.bytes / bytes_per_s)


def rounded_parts(device: str) -> set[str]:
    """What autocast to bf16 rounds on a type of device: products of the output layer, on a CPU recurrent ones too."""
    return {"encoder", "decoder", "output"} if device == "cpu" else {"output"}


def least_seconds(work: Mapping[str, Work], best: Ceiling, *, device: str, bf16: bool) -> float:
    """The least time for all parts, one after another, on a type of device; ``bf16``: under autocast to it."""
    fast = max(best.fp32_flops_per_s, best.bf16_flops_per_s) if bf16 else best.fp32_flops_per_s
    rates = {name: fast if name in rounded_parts(device) else best.fp32_flops_per_s for name in work}
    return sum(part.seconds(rates[name], best.bytes_per_s) for name, part in work.items())


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Numbers in the matrices that a token passes through."""

    encoder: int
    decoder: int
    output: int

    @classmethod
    def of(cls, config: ModelConfig, vocab_size: int) -> "Weights":
        encoder, decoder = config.encoder, config.decoder
        directions = 2 if encoder.bidirectional else 1
        inside = [encoder.embedding] + [encoder.hidden * directions] * (encoder.layers - 1)
        reading = directions * sum(_recurrent(encoder.cell, size, encoder.hidden) for size in inside)
        code = config.latent_dim if decoder.z_to_input else 0
        inside = [decoder.embedding + code] + [decoder.hidden] * (decoder.layers - 1)
        return cls(
            encoder=reading if config.latent_dim else 0,
            decoder=sum(_recurrent(decoder.cell, size, decoder.hidden) for size in inside),
            output=decoder.hidden * vocab_size,
        )


def _recurrent(cell: Cell, inputs: int, hidden: int) -> int:
    return _GATES[cell] * hidden * (inputs + hidden)


def update_work(
    config: ModelConfig, vocab_size: int, *, parameters: int, sentences: float, tokens: float, samples: int = 1
) -> dict[str, Work]:
    """One update on ``sentences`` with ``tokens`` predicted tokens in all, by part, with AdamW.

    The backward pass makes two products for each of the forward pass, and the gradients of the weights; clipping
    reads every gradient once.
    """
    weights = Weights.of(config, vocab_size)
    reads = tokens + sentences  # BOS is read, and not predicted
    return {
        "encoder": Work(6.0 * weights.encoder * reads, 3 * _FP32 * weights.encoder),
        "decoder": Work(6.0 * weights.decoder * tokens * samples, 3 * _FP32 * weights.decoder),
        "output": Work(6.0 * weights.output * tokens * samples, 3 * _FP32 * weights.output),
        "update": Work(0.0, (_ADAMW + 1) * _FP32 * parameters),
    }


def scoring_work(config: ModelConfig, vocab_size: int, *, sentences: int, tokens: int, samples: int) -> dict[str, Work]:
    """Likelihood of ``samples`` codes for each sentence, which is read once."""
    weights = Weights.of(config, vocab_size)
    return {
        "encoder": Work(2.0 * weights.encoder * (tokens + sentences), _FP32 * weights.encoder),
        "decoder": Work(2.0 * weights.decoder * tokens * samples, _FP32 * weights.decoder),
        "output": Work(2.0 * weights.output * tokens * samples, _FP32 * weights.output),
    }


def writing_work(config: ModelConfig, vocab_size: int, *, tokens: int, steps: int) -> dict[str, Work]:
    """``tokens`` written in all (of every hypothesis), in ``steps`` steps that each read all weights."""
    weights = Weights.of(config, vocab_size)
    return {
        "decoder": Work(2.0 * weights.decoder * tokens, _FP32 * weights.decoder * steps),
        "output": Work(2.0 * weights.output * tokens, _FP32 * weights.output * steps),
    }
