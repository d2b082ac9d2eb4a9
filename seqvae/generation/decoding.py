"""Codes to token sequences: greedy, sampling and beam search, a whole batch at once."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import evaluating
from seqvae.types import BOS, EOS, PAD, UNK

_TIDY_EVERY = {"cpu": 1}
"""Tokens between two looks for sentences that have ended, by device type."""


MOST = {"beam_size": 1_000, "max_length": 100_000}
"""Beyond these a slip of the hand fills any memory."""


class DecodeConfig(BaseModel):
    """How sentences are written from codes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Literal["greedy", "sample", "beam"] = Field(
        "sample", description="greedy: likeliest token; sample: drawn from the model; beam: likeliest sentence found"
    )
    temperature: float = Field(1.0, description="sampling: logits are divided by this, above 0; 1 is the model itself")
    top_k: int | None = Field(None, description="sampling: keep only the k likeliest tokens; null keeps all")
    top_p: float = Field(1.0, description="sampling: keep the likeliest tokens that hold this probability, in (0, 1]")
    beam_size: int = Field(5, description="beam: hypotheses kept for each sentence, at most 1,000")
    max_length: int = Field(200, description="most tokens to write, the end of the sentence counted, up to 100,000")
    allow_unk: bool = Field(False, description="whether <unk> may be written")

    @model_validator(mode="after")
    def _check(self) -> "DecodeConfig":
        if self.temperature == 0:
            raise SeqVAEError("E231", "temperature 0 leaves nothing to draw", hint="for the likeliest tokens: --greedy")
        if not 0 < self.temperature < math.inf:
            raise SeqVAEError("E231", f"temperature {self.temperature} is not a positive number", hint="try 1.0")
        if not 0 < self.top_p <= 1:
            raise SeqVAEError("E232", f"top_p {self.top_p} is not in (0, 1]", hint="0.9 is usual; 1 keeps everything")
        for name in ("top_k", "beam_size", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SeqVAEError("E233", f"{name} {value} is below 1", hint="give a whole number from 1")
            if value is not None and value > MOST.get(name, value):
                most = f"at most {MOST[name]:,} are possible"
                raise SeqVAEError("E233", f"{name} {value:,} is too many", hint=most)
        return self


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One sequence for each code: ``tokens`` without BOS and EOS.

    ``log_probs`` are log p(tokens|z) in nats under the model as it is, before temperature, top-k, top-p and the
    suppression of special tokens; EOS is counted where it was written.
    """

    tokens: list[list[int]]
    log_probs: list[float]
    truncated: list[bool]
    """Whether the sentence was cut at ``max_length`` without having ended."""


def decode(
    model: nn.Module,
    z: Float[Tensor, "N Z"],
    config: DecodeConfig,
    generator: torch.Generator | None = None,
    *,
    labels: Int[Tensor, " N"] | None = None,
) -> Decoded:
    """Write one sentence for each code. Sentences that have ended leave the computation.

    A conditional model needs the label of each (else E282).

    Sampling draws its uniform numbers up front, on the generator's device (without one: on the CPU, from the global
    random state), a row for each code: what a code gives does not depend on when the others end. <pad> and <bos> are
    never written, <unk> only if allowed. Errors: E234 for a code that is not finite, E530 for a decoder that fails.
    """
    if not torch.isfinite(z).all():
        raise SeqVAEError("E234", "a latent code holds NaN or infinity", hint="check where the code comes from")
    if len(z) == 0:
        return Decoded(tokens=[], log_probs=[], truncated=[])
    with evaluating(model):
        z = model.decoder_input(z.to(model.device), None if labels is None else labels.to(model.device))
        tokens, log_probs = _beam(model, z, config) if config.strategy == "beam" else _walk(model, z, config, generator)
    if not torch.isfinite(log_probs).all():
        raise SeqVAEError(
            "E530", "the decoder's output is not finite", hint="the model diverged, or the code is far from its data"
        )
    sequences = [_words(row) for row in tokens.tolist()]
    return Decoded(
        tokens=[words for words, _ in sequences],
        log_probs=log_probs.tolist(),
        truncated=[not ended for _, ended in sequences],
    )


def _words(row: list[int]) -> tuple[list[int], bool]:
    return (row[: row.index(EOS)], True) if EOS in row else (row, False)


def _forbidden(allow_unk: bool, device: torch.device) -> Int[Tensor, " F"]:
    return torch.tensor([PAD, BOS] if allow_unk else [PAD, BOS, UNK], device=device)


def _tidies(t: int, config: DecodeConfig, device: torch.device) -> bool:
    """Whether sentences that have ended leave the computation after step ``t``, and all of them at the last one.

    To know which they are, the host has to wait for a GPU: there it is not done at every token.
    """
    return (t + 1) % _TIDY_EVERY.get(device.type, 8) == 0 or t + 1 == config.max_length


def _walk(
    model: nn.Module, z: Float[Tensor, "N Z"], config: DecodeConfig, generator: torch.Generator | None
) -> tuple[Int[Tensor, "N L"], Float[Tensor, " N"]]:
    """Greedy or sampled: one hypothesis for each code, token by token."""
    n, device = len(z), z.device
    tokens = torch.full((n, config.max_length), EOS, device=device)
    total, forbidden = torch.zeros(n, device=device), _forbidden(config.allow_unk, device)
    uniform = None
    if config.strategy == "sample":
        source = torch.device("cpu") if generator is None else generator.device
        uniform = torch.rand(n, config.max_length, generator=generator, dtype=_wide(source), device=source)
        uniform = uniform.to(_wide(device)).to(device)
    state, live = model.decoder.start(z), torch.arange(n, device=device)
    token, ended = torch.full((n,), BOS, device=device), torch.zeros(n, dtype=torch.bool, device=device)
    for t in range(config.max_length):
        logits, state = model.decoder.step(token, z, state)
        log_probs = torch.log_softmax(logits, -1).index_fill_(1, forbidden, -math.inf)
        token = log_probs.argmax(-1) if uniform is None else _draw(log_probs, uniform[live, t], config)
        total[live] += log_probs.gather(1, token[:, None])[:, 0].masked_fill(ended, 0.0)
        token = token.masked_fill(ended, EOS)
        tokens[live, t] = token
        ended = ended | (token == EOS)
        if _tidies(t, config, device):
            going = torch.nonzero(~ended)[:, 0]
            if len(going) == 0:
                break
            if len(going) < len(token):
                state, live, z = state.select(going), live[going], z[going]
                token, ended = token[going], ended[going]
    return tokens, total


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _draw(log_probs: Float[Tensor, "N V"], uniform: Float[Tensor, " N"], config: DecodeConfig) -> Int[Tensor, " N"]:
    """Inverse-CDF sampling of softmax(log_probs / temperature) after top-k and top-p.

    The maximum is taken off before the division, so that no temperature overflows. Top-p keeps the smallest set of
    likeliest tokens whose probability reaches it (Holtzman et al. 2020), after top-k and temperature. Probabilities
    that are used as they are keep the precision that they come in; their sums are wide.
    """
    shifted = log_probs - log_probs.amax(-1, keepdim=True)
    if config.temperature == 1 and config.top_k is None and config.top_p == 1:
        probs = shifted.exp_()
    else:
        probs = _reshaped(shifted.to(uniform.dtype) / config.temperature, config)
    cdf = probs.cumsum(-1, dtype=uniform.dtype)
    total = cdf[:, -1:]
    # Below the total, so that rounding cannot point past the last token that has any probability.
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(cdf, target, right=True).clamp_(max=probs.shape[1] - 1)
    if probs.device.type != "cpu":
        # A parallel sum may dip by a rounding error and so point at a token of probability 0.
        drawn = torch.where(probs.gather(1, drawn) > 0, drawn, probs.argmax(-1, keepdim=True))
    return drawn[:, 0]


def _reshaped(shifted: Float[Tensor, "N V"], config: DecodeConfig) -> Float[Tensor, "N V"]:
    """Probabilities after top-k and top-p."""
    if config.top_k is not None and config.top_k < shifted.shape[1]:
        best = shifted.topk(config.top_k, dim=-1)
        shifted = torch.full_like(shifted, -math.inf).scatter(1, best.indices, best.values)
    probs = torch.softmax(shifted, -1)
    if config.top_p == 1:
        return probs
    ordered, index = torch.sort(probs, dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probs).scatter(1, index, ordered.masked_fill(before >= config.top_p, 0.0))


def _beam(
    model: nn.Module, z: Float[Tensor, "N Z"], config: DecodeConfig
) -> tuple[Int[Tensor, "N L"], Float[Tensor, " N"]]:
    """Beam search, no length penalty; a hypothesis that has ended stays in its beam and is continued by PAD for free.

    Scores only fall, so a sentence is done once its best hypothesis has ended: no other can overtake it, and going on
    leaves it as it is. What follows a hypothesis is looked for among its own likeliest tokens: no other can be chosen.
    """
    n, k, length, device = len(z), config.beam_size, config.max_length, z.device
    tokens, log_probs = torch.full((n, length), EOS, device=device), torch.zeros(n, device=device)
    forbidden = _forbidden(config.allow_unk, device)
    live, row = torch.arange(n, device=device), z.repeat_interleave(k, 0)
    state, token = model.decoder.start(row), torch.full((n * k,), BOS, device=device)
    scores = torch.full((n, k), -math.inf, device=device)
    scores[:, 0] = 0.0  # the k copies of the start are one hypothesis
    ended = torch.zeros(n, k, dtype=torch.bool, device=device)
    written = torch.full((n, k, length), EOS, device=device)
    for t in range(length):
        logits, state = model.decoder.step(token, row, state)
        steps = torch.log_softmax(logits, -1).index_fill_(1, forbidden, -math.inf)
        steps, words = (part.view(len(live), k, -1) for part in steps.topk(min(k, logits.shape[1])))
        steps, words = steps.masked_fill(ended[..., None], -math.inf), words.masked_fill(ended[..., None], PAD)
        steps[..., 0].masked_fill_(ended, 0.0)
        scores, choice = (scores[..., None] + steps).flatten(1).topk(k, dim=1)
        parent, token = choice // steps.shape[2], words.flatten(1).gather(1, choice)
        written = written.gather(1, parent[..., None].expand(-1, -1, length))
        ended = ended.gather(1, parent)
        written[..., t] = torch.where(ended, EOS, token)
        ended = ended | (token == EOS)
        kept = parent + k * torch.arange(len(live), device=device)[:, None]
        if _tidies(t, config, device):
            done = ended[:, 0] if t + 1 < length else torch.ones_like(ended[:, 0])
            tokens[live[done]], log_probs[live[done]] = written[done, 0], scores[done, 0]
            if done.all():
                break
            kept, live, token = kept[~done], live[~done], token[~done]
            scores, ended, written = scores[~done], ended[~done], written[~done]
            row = z[live].repeat_interleave(k, 0)
        state, token = state.select(kept.flatten()), token.flatten()
    return tokens, log_probs
