"""Missing words, filled under the model: a search between codes and words, and a score for each sentence found."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import drawn_together
from seqvae.evaluation.passes import evaluating, one_code, row_seed
from seqvae.generation.gaps import FIRST, GappedText, Shape, starters
from seqvae.types import BOS, EOS, PAD, UNK, Batch

_TOGETHER = 16_384
"""Tokens scored at once, padding counted; samples of z count too."""


class ImputeConfig(BaseModel):
    """How missing words are looked for, and how what is found is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    most: int = Field(3, ge=0, description="most tokens in a gap of any length")
    chains: int = Field(4, ge=1, description="searches side by side, each with codes of its own")
    rounds: int = Field(4, ge=1, description="passages from words to a code and back, in each search")
    beam_size: int = Field(32, ge=1, description="sentences that a search keeps in each round")
    iw_samples: int = Field(100, ge=1, description="samples of z behind the score of a sentence")
    scored: int = Field(32, ge=1, description="sentences that are scored at most")


@dataclass(frozen=True, kw_only=True)
class Imputation:
    """A sentence with its gaps filled."""

    text: str
    fills: tuple[str, ...]
    """What stands in each gap."""
    nats: float
    """Its score: IW-NLL; exact for a language model; of a plain autoencoder -log p(x|z) at its own code."""
    share: float
    """exp(-nats) among all the sentences that were scored for this text: 0 to 1."""


def impute(
    model: nn.Module,
    tokenizer: Tokenizer,
    text: str,
    *,
    n: int = 5,
    config: ImputeConfig | None = None,
    seed: int = 0,
    noiseless: bool = False,
    label: int | None = None,
) -> list[Imputation]:
    """The ``n`` best sentences found in place of a text with gaps, best first.

    Words and code are filled in turn: z from q(z|x) of the sentence as it is filled so far (at first with <unk> in its
    gaps), then the words from p(missing words|words that are there, z) by a beam search that also pays for the words
    behind each gap. The next passage starts from one of its sentences, drawn by their probability. This is
    pseudo-Gibbs sampling (Rezende et al. 2014, appendix F; Mattei and Frellsen 2018), with a beam in place of an exact
    draw. It only proposes: what it found is scored by IW-NLL of the whole sentence, an upper bound on -log p(x) in the
    mean, with the same noise for every sentence. Sentences of different lengths compare, since p(x) knows lengths.

    The search is not exhaustive: a filler that it never wrote is not in the list, and shares are among what it found.
    Without a latent code it is one beam search, and scores are exact. Fillers hold no <unk>.

    Errors: E298 for gaps that cannot be read, E242 for a negative ``n``, E530 and E531 for a model that diverged.
    """
    if n < 0:
        raise SeqVAEError("E242", f"cannot find {n} sentences", hint="give a whole number from 0")
    config = config or ImputeConfig()
    gapped = GappedText.read(text, tokenizer)
    search = _Search(model, tokenizer, config, seed, noiseless, label)
    found: dict[tuple[int, ...], tuple[float, Shape]] = {}
    with evaluating(model):
        for number, shape in enumerate(gapped.shapes(config.most)):
            for sentence, log_prob in search.propose(shape, number).items():
                found[sentence] = max((log_prob, shape), found.get(sentence, (-math.inf, shape)), key=_first)
        best = sorted(found, key=lambda sentence: (-found[sentence][0], sentence))[: max(config.scored, n)]
        nats = search.score(best)
    if not np.isfinite(nats).all():
        hint = "the model diverged: train it again with a lower `train.optimizer.lr`"
        raise SeqVAEError("E531", "the score of a filled sentence is not finite", hint=hint)
    shares = np.exp(nats.min(initial=math.inf) - nats)
    listed = []
    for place in np.argsort(nats, kind="stable")[:n].tolist():
        fills = gapped.fills(best[place], found[best[place]][1].lengths, tokenizer)
        share = float(shares[place] / shares.sum())
        listed.append(
            Imputation(text=gapped.filled(fills, tokenizer), fills=fills, nats=float(nats[place]), share=share)
        )
    return listed


def _first(pair: tuple[float, Shape]) -> float:
    return pair[0]


class _Search:
    """Proposes sentences of one shape, and scores any."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        config: ImputeConfig,
        seed: int,
        noiseless: bool,
        label: int | None,
    ):
        self.model, self.config, self.seed, self.noiseless, self.label = model, config, seed, noiseless, label
        words = torch.ones(model.vocab_size, dtype=torch.bool, device=model.device)
        words[[PAD, BOS, EOS, UNK]] = False
        first = starters(tokenizer)
        self.words = words
        self.firsts = words if first is None else words & torch.tensor(first, device=model.device)

    def propose(self, shape: Shape, number: int) -> dict[tuple[int, ...], float]:
        """Sentences of this shape, each with the best log p(x|z) that it was written with."""
        found: dict[tuple[int, ...], float] = {}
        latent = self.model.latent_dim > 0
        chains, rounds = (self.config.chains, self.config.rounds) if latent else (1, 1)
        # One generator a shape: what a shape gives does not depend on the others.
        generator = torch.Generator().manual_seed(row_seed(self.seed, f"impute {number}"))
        sentences = torch.tensor([[UNK if token < 0 else token for token in shape.tokens]] * chains)
        for turn in range(rounds):
            batch = self._batch(sentences)
            z = self._draw(batch, turn) if latent else torch.zeros(chains, 0, device=self.model.device)
            written, log_probs = fill(
                self.model.decoder,
                self.model.decoder_input(z, batch.labels),
                shape.tokens,
                lambda slot: self.firsts if slot == FIRST else self.words,
                self.config.beam_size if latent else self.config.beam_size * self.config.chains,
            )
            if not torch.isfinite(log_probs).all():
                raise SeqVAEError(
                    "E530", "the decoder's output is not finite", hint="the model diverged: train it again"
                )
            for row, log_prob in zip(written.flatten(0, 1).tolist(), log_probs.flatten().tolist(), strict=True):
                sentence = tuple(row)
                found[sentence] = max(log_prob, found.get(sentence, -math.inf))
            pick = torch.multinomial(log_probs.cpu().double().softmax(-1), 1, generator=generator)[:, 0]
            sentences = written[torch.arange(chains), pick].cpu()
        return found

    def _draw(self, batch: Batch, turn: int) -> Float[Tensor, "B Z"]:
        q, seed = self.model.encode(batch), row_seed(self.seed, f"turn {turn}")
        return one_code(q, np.arange(len(batch)), seed, noiseless=self.noiseless).z[0]

    def score(self, sentences: Sequence[tuple[int, ...]]) -> Float[np.ndarray, " N"]:
        """In nats; the noise of each is that of the first sentence of `score_sentences`."""
        model = self.model
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        width = int(lengths.max())
        padded = [[*sentence, *[PAD] * (width - len(sentence))] for sentence in sentences]
        batch = self._batch(torch.tensor(padded), lengths)
        q = model.encode(batch)
        if q is None or self.noiseless:
            terms = model.terms(batch, q=q, z=None if q is None else q.mean[None])
            return terms.rec[0].cpu().double().numpy()
        samples, log_sum = self.config.iw_samples, torch.full((len(batch),), -math.inf, dtype=torch.float64)
        together = max(1, _TOGETHER // batch.tokens.numel())
        for draw in drawn_together(q, samples, np.zeros(len(batch), np.int64), self.seed, together):
            terms = model.terms(batch, q=q, z=draw.z, log_q=draw.log_q)
            log_weights = terms.log_p.cpu().double() - terms.log_q.cpu().double() - terms.rec.cpu().double()
            log_sum = torch.logaddexp(log_sum, torch.logsumexp(log_weights, 0))
        return (math.log(samples) - log_sum).numpy()

    def _batch(self, sentences: Int[Tensor, "B T"], lengths: Int[Tensor, " B"] | None = None) -> Batch:
        count, width = sentences.shape
        lengths = torch.full((count,), width) if lengths is None else lengths
        labels = None if self.label is None else torch.full((count,), self.label)
        batch = Batch(tokens=sentences, lengths=lengths, rows=torch.arange(count), labels=labels)
        return batch.to(self.model.device)


def fill(
    decoder: nn.Module,
    z: Float[Tensor, "N Y"],
    shape: Sequence[int],
    allowed: Callable[[int], Bool[Tensor, " V"]],
    beam_size: int,
) -> tuple[Int[Tensor, "N K T"], Float[Tensor, "N K"]]:
    """The likeliest sentences of a shape given each code, as a beam search finds them, with log p(x|z) in nats.

    A token of the shape that is below 0 is missing, and ``allowed`` (its kind) says which may take its place; every
    hypothesis pays for the tokens that are there. With ``beam_size`` hypotheses or fewer to tell apart, all are found.
    """
    n, device = len(z), z.device
    scores, rows = torch.zeros(n, 1, device=device), z
    written = torch.full((n, 1, 1), shape[0], device=device)
    state = decoder.start(z)
    for slot in shape[1:]:
        width = scores.shape[1]
        logits, state = decoder.step(written[..., -1].flatten(), rows, state)
        steps = torch.log_softmax(logits, -1).view(n, width, -1)
        if slot >= 0:
            scores = scores + steps[..., slot]
            token = torch.full((n, width, 1), slot, device=device)
        else:
            mask = allowed(slot)
            total = scores[..., None] + steps.masked_fill(~mask, -math.inf)
            scores, choice = total.flatten(1).topk(min(beam_size, width * int(mask.sum())), dim=1)
            parent, token = choice // len(mask), (choice % len(mask))[..., None]
            written = written.gather(1, parent[..., None].expand(-1, -1, written.shape[-1]))
            state = state.select((parent + width * torch.arange(n, device=device)[:, None]).flatten())
            rows = z.repeat_interleave(scores.shape[1], 0)
        written = torch.cat([written, token], -1)
    return written, scores
