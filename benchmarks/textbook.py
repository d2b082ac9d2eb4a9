"""The same model as plain PyTorch would have it in a textbook: what the measurements of speed are ratios to.

One embedding and one LSTM to read, one LSTM that z starts and feeds to write (Bowman et al. 2016), in fp32; sentences
of several lengths are packed, the logits of all tokens exist at once, sentences are written and measured one after
another. It takes its weights from a `SeqVAE`, and gives the same losses, gradients, sentences and bounds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.types import BOS, EOS, PAD, UNK

FORBIDDEN = [PAD, BOS, UNK]
"""Tokens that are never written."""

State = tuple[Float[Tensor, "1 N H"], Float[Tensor, "1 N H"]]


@dataclass
class Hypothesis:
    """A sentence that beam search has begun: its log-probability, its words, and the state to go on from."""

    score: float
    words: list[int]
    state: State
    ended: bool = False


class Textbook(nn.Module):
    """An LSTM variational autoencoder: one layer each, a diagonal Gaussian posterior, the prior N(0, I)."""

    def __init__(self, config: ModelConfig, vocab_size: int):
        super().__init__()
        encoder, decoder, latent = config.encoder, config.decoder, config.latent_dim
        self.encoder_embedding = nn.Embedding(vocab_size, encoder.embedding)
        self.encoder_lstm = nn.LSTM(encoder.embedding, encoder.hidden, batch_first=True)
        self.posterior = nn.Linear(encoder.hidden, 2 * latent, bias=False)
        self.decoder_embedding = nn.Embedding(vocab_size, decoder.embedding)
        self.start = nn.Linear(latent, decoder.hidden, bias=False)
        self.decoder_lstm = nn.LSTM(decoder.embedding + latent, decoder.hidden, batch_first=True)
        self.output = nn.Linear(decoder.hidden, vocab_size, bias=False)
        if decoder.tie_weights:
            self.output.weight = self.decoder_embedding.weight
        self.encoder_dropout = nn.Dropout(encoder.dropout)
        self.dropout_in, self.dropout_out = nn.Dropout(decoder.dropout_in), nn.Dropout(decoder.dropout_out)
        self.cross_entropy = nn.CrossEntropyLoss(ignore_index=PAD, reduction="sum")

    @classmethod
    def like(cls, model: SeqVAE) -> "Textbook":
        """The same network with a copy of the weights. ValueError for a model with more to it than is written here."""
        config = model.config
        plain = ModelConfig(latent_dim=config.latent_dim)
        plain_encoder = {"embedding", "hidden", "dropout"}
        plain_decoder = {"embedding", "hidden", "dropout_in", "dropout_out", "tie_weights"}
        rest = {"posterior": config.posterior, "prior": config.prior, "conditional": config.conditional}
        same = config.encoder.model_dump(exclude=plain_encoder) == plain.encoder.model_dump(exclude=plain_encoder)
        same &= config.decoder.model_dump(exclude=plain_decoder) == plain.decoder.model_dump(exclude=plain_decoder)
        if not same or config.latent_dim == 0 or any(value != getattr(plain, name) for name, value in rest.items()):
            raise ValueError("the textbook has no such network")
        book = cls(config, model.vocab_size).to(model.device)
        weights = model.state_dict()
        with torch.no_grad():
            for name, parameter in book.named_parameters():
                parameter.copy_(weights[SAME[name] if name in SAME else _recurrent(name)])
        return book

    def encode(self, tokens: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), ``[B Z]`` each."""
        inputs = self.encoder_dropout(self.encoder_embedding(tokens))
        if not _alike(lengths):
            inputs = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (h, _) = self.encoder_lstm(inputs)
        mean, logvar = self.posterior(h[-1]).chunk(2, dim=-1)
        return mean, logvar

    def start_state(self, z: Float[Tensor, "N Z"]) -> State:
        """h0 = tanh(W z) and c0 = W z."""
        c = self.start(z)[None]
        return torch.tanh(c), c

    def logits(
        self, tokens: Int[Tensor, "N T"], lengths: Int[Tensor, " N"], z: Float[Tensor, "N Z"]
    ) -> Float[Tensor, "N T1 V"]:
        """Of every token but BOS, teacher-forced."""
        inputs = self.dropout_in(self.decoder_embedding(tokens[:, :-1]))
        inputs = torch.cat([inputs, z[:, None].expand(-1, inputs.shape[1], -1)], dim=-1)
        if _alike(lengths):
            outputs, _ = self.decoder_lstm(inputs, self.start_state(z))
        else:
            packed = pack_padded_sequence(inputs, lengths.cpu() - 1, batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(self.decoder_lstm(packed, self.start_state(z))[0], batch_first=True)
        return self.output(self.dropout_out(outputs))

    def loss(
        self,
        tokens: Int[Tensor, "B T"],
        lengths: Int[Tensor, " B"],
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """rec + weight * KL in nats, mean over the sentences, with one sample of z each."""
        mean, logvar = self.encode(tokens, lengths)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + torch.exp(0.5 * logvar) * noise
        rec = self.cross_entropy(self.logits(tokens, lengths, z).flatten(0, 1), tokens[:, 1:].flatten())
        kl = -0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).sum()
        return (rec + kl_weight * kl) / len(tokens)

    @torch.no_grad()
    def iw_nll(
        self,
        sentence: Int[Tensor, " T"],
        samples: int,
        together: int = 100,
        generator: torch.Generator | None = None,
    ) -> float:
        """-log (1/k) sum p(x, z) / q(z|x) of one sentence (Burda et al. 2016), ``together`` samples at a time."""
        lengths = torch.tensor([len(sentence)])
        mean, logvar = self.encode(sentence[None], lengths)
        weights = []
        for noise in torch.randn(samples, mean.shape[1], generator=generator, device=mean.device).split(together):
            z = mean + torch.exp(0.5 * logvar) * noise
            copies = sentence.expand(len(z), -1)
            logits = self.logits(copies, lengths.expand(len(z)), z)
            nll = nn.functional.cross_entropy(logits.transpose(1, 2), copies[:, 1:], reduction="none").sum(1)
            log_q = torch.distributions.Normal(mean, torch.exp(0.5 * logvar)).log_prob(z).sum(-1)
            log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
            weights.append(log_p - nll - log_q)
        return math.log(samples) - float(torch.logsumexp(torch.cat(weights), dim=0))

    @torch.no_grad()
    def write(self, z: Float[Tensor, " Z"], max_length: int, *, draw: bool = False) -> list[int]:
        """One sentence, token by token: the likeliest token at each step, or one drawn from the model."""
        state, token, words = self.start_state(z[None]), BOS, []
        for _ in range(max_length):
            log_probs, state = self._step([token], z[None], state)
            token = int(torch.multinomial(log_probs[0].exp(), 1) if draw else log_probs[0].argmax())
            if token == EOS:
                break
            words.append(token)
        return words

    @torch.no_grad()
    def beam(self, z: Float[Tensor, " Z"], max_length: int, size: int) -> list[int]:
        """One sentence by beam search: the hypotheses that still grow take a step together."""
        beam = [Hypothesis(0.0, [], self.start_state(z[None]))]
        for _ in range(max_length):
            growing = [hypothesis for hypothesis in beam if not hypothesis.ended]
            state = tuple(torch.cat([hypothesis.state[part] for hypothesis in growing], dim=1) for part in (0, 1))
            last = [hypothesis.words[-1] if hypothesis.words else BOS for hypothesis in growing]
            log_probs, (h, c) = self._step(last, z.expand(len(growing), -1), state)
            candidates = [hypothesis for hypothesis in beam if hypothesis.ended]
            for i, hypothesis in enumerate(growing):
                best = log_probs[i].topk(min(size, log_probs.shape[1]))
                for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    words = hypothesis.words if token == EOS else [*hypothesis.words, token]
                    after = (h[:, i : i + 1], c[:, i : i + 1])
                    candidates.append(Hypothesis(hypothesis.score + value, words, after, token == EOS))
            beam = sorted(candidates, key=lambda hypothesis: -hypothesis.score)[:size]
            if beam[0].ended:
                break
        return beam[0].words

    def _step(self, last: list[int], z: Float[Tensor, "N Z"], state: State) -> tuple[Float[Tensor, "N V"], State]:
        """Log-probabilities of the next token, those never written left out, and the state after ``last``."""
        inputs = self.decoder_embedding(torch.tensor(last, device=z.device))
        outputs, state = self.decoder_lstm(torch.cat([inputs, z], dim=-1)[:, None], state)
        log_probs = torch.log_softmax(self.output(outputs[:, 0]), dim=-1)
        log_probs[:, FORBIDDEN] = -math.inf
        return log_probs, state


SAME = {
    "encoder_embedding.weight": "encoder.embedding.weight",
    "posterior.weight": "posterior.linear.weight",
    "decoder_embedding.weight": "decoder.embedding.weight",
    "start.weight": "decoder.state.weight",
    "output.weight": "decoder.output.weight",
}
"""Names of weights here, and in a `SeqVAE`."""


def _recurrent(name: str) -> str:
    return name.replace("encoder_lstm.", "encoder.lstm.forwards.0.").replace("decoder_lstm.", "decoder.lstm.")


def _alike(lengths: Int[Tensor, " B"]) -> bool:
    return bool((lengths == lengths[0]).all())


class Training:
    """The textbook's training: AdamW over everything, gradients clipped by their norm, the loss read at every step."""

    def __init__(self, book: Textbook, *, lr: float, clip_norm: float, generator: torch.Generator | None = None):
        self.book, self.clip_norm, self.generator = book.train(), clip_norm, generator
        self.optimizer = torch.optim.AdamW(book.parameters(), lr=lr, weight_decay=0.0)

    def step(self, sentences: Sequence[Int[Tensor, " T"]], kl_weight: float = 1.0) -> float:
        """One update on some sentences; the loss before it, in nats per sentence."""
        device = self.book.output.weight.device
        tokens = pad_sequence(list(sentences), batch_first=True, padding_value=PAD).to(device)
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        self.optimizer.zero_grad()
        loss = self.book.loss(tokens, lengths, kl_weight, self.generator)
        loss.backward()
        nn.utils.clip_grad_norm_(self.book.parameters(), self.clip_norm)
        self.optimizer.step()
        return loss.item()
