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
from seqvae.gaussian import widest
from seqvae.generation.next_token import NextToken
from seqvae.types import BOS, EOS, PAD

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
    tokens, total = torch.full((n, config.max_length), EOS, device=device), torch.zeros(n, device=device)
    shape = config.model_dump(include={"temperature", "top_k", "top_p"})
    uniform = None
    if config.strategy == "sample":
        source = torch.device("cpu") if generator is None else generator.device
        uniform = torch.rand(n, config.max_length, generator=generator, dtype=widest(source), device=source)
        uniform = uniform.to(widest(device)).to(device)
    output = _next_token(model, n, config)
    state, live = model.decoder.start(z), torch.arange(n, device=device)
    token, ended = torch.full((n,), BOS, device=device), torch.zeros(n, dtype=torch.bool, device=device)
    for t in range(config.max_length):
        outputs, state = model.decoder.advance(token, z, state)
        if uniform is None:
            log_probs, chosen = output.likeliest(outputs, 1)
        else:
            log_probs, chosen = output.drawn(outputs, uniform[live, t], **shape)
        token = chosen[:, 0]
        total[live] += log_probs[:, 0].masked_fill(ended, 0.0)
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


def _next_token(model: nn.Module, rows: int, config: DecodeConfig) -> NextToken:
    decoder = model.decoder
    return NextToken(decoder.output_weight, decoder.output_bias, rows, allow_unk=config.allow_unk)


def _beam(
    model: nn.Module, z: Float[Tensor, "N Z"], config: DecodeConfig
) -> tuple[Int[Tensor, "N L"], Float[Tensor, " N"]]:
    """Beam search, no length penalty; a hypothesis that has ended stays in its beam and is continued by PAD for free.

    Scores only fall, so a hypothesis that is not above the best that has ended cannot win any more: it takes no further
    step, and a sentence is done once none does. What follows a hypothesis is looked for among its own likeliest tokens:
    no other can be chosen.
    """
    n, k, length, device = len(z), config.beam_size, config.max_length, z.device
    tokens, log_probs = torch.full((n, length), EOS, device=device), torch.zeros(n, device=device)
    output = _next_token(model, n * k, config)
    live = torch.arange(n, device=device)
    scores = torch.full((n, k), -math.inf, device=device)
    scores[:, 0] = 0.0  # the start is one hypothesis
    ended = torch.zeros(n, k, dtype=torch.bool, device=device)
    written = torch.full((n, k, length), EOS, device=device)
    grown = live * k  # places, in all beams laid end to end, of the hypotheses that ``token`` and ``state`` belong to
    state, token = model.decoder.start(z), torch.full((n,), BOS, device=device)
    for t in range(length):
        outputs, state = model.decoder.advance(token, z[live[grown // k]], state)
        found, likely = output.likeliest(outputs, k)
        width = found.shape[1]
        steps = found.new_full((len(live) * k, width), -math.inf).index_copy_(0, grown, found).view(-1, k, width)
        words = likely.new_full((len(live) * k, width), PAD).index_copy_(0, grown, likely).view(-1, k, width)
        steps = steps.masked_fill(ended[..., None], -math.inf)
        words = words.masked_fill(ended[..., None], PAD)
        steps[..., 0].masked_fill_(ended, 0.0)
        row = torch.zeros(len(live) * k, dtype=torch.long, device=device)
        row[grown] = torch.arange(len(grown), device=device)
        scores, choice = (scores[..., None] + steps).flatten(1).topk(k, dim=1)
        parent, token = choice // width, words.flatten(1).gather(1, choice)
        written = written.gather(1, parent[..., None].expand(-1, -1, length))
        ended = ended.gather(1, parent)
        written[..., t] = torch.where(ended, EOS, token)
        ended = ended | (token == EOS)
        row = row[parent + k * torch.arange(len(live), device=device)[:, None]]
        grows = ~ended & (scores > scores.masked_fill(~ended, -math.inf).amax(1, keepdim=True))
        if _tidies(t, config, device):
            last = t + 1 == length
            done = ~grows.any(1) | last
            best = scores.masked_fill(~(ended | last), -math.inf).argmax(1)
            tokens[live[done]], log_probs[live[done]] = written[done, best[done]], scores[done, best[done]]
            if done.all():
                break
            live, row, token, grows = live[~done], row[~done], token[~done], grows[~done]
            scores, ended, written = scores[~done], ended[~done], written[~done]
            grown = torch.nonzero(grows.flatten())[:, 0]
        else:
            grown = torch.arange(len(live) * k, device=device)
        state, token = state.select(row.flatten()[grown]), token.flatten()[grown]
    return tokens, log_probs
