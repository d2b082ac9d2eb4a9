"""SeqVAE: encoder, posterior, prior and decoder as one model over batches of token ids."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from seqvae.models.conditional import ConditionalConfig, label_missing, require_labels
from seqvae.models.cross_entropy import token_argmax, token_nll
from seqvae.models.decoder import Decoder, DecoderConfig
from seqvae.models.encoder import Encoder, EncoderConfig
from seqvae.models.families import check_families, fill_prior
from seqvae.models.posterior import PosteriorConfig, build_posterior
from seqvae.models.posterior_gaussian import GaussianPosteriorConfig
from seqvae.models.prior import PriorConfig, build_prior
from seqvae.models.prior_sphere import SpherePrior
from seqvae.models.prior_standard import StandardPriorConfig
from seqvae.types import PAD, Batch, Posterior, Terms


class InitConfig(BaseModel):
    """How parameters are drawn before training (``model.init``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: float | None = Field(None, gt=0, description="uniform in +-this; null: PyTorch's defaults")
    embeddings: float = Field(0.1, gt=0, description="embeddings uniform in +-this")


class ModelConfig(BaseModel):
    """Settings of the model (section ``model``), saved with its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent_dim: int = Field(32, ge=0, description="dimensions of z; 0 gives a language model")
    encoder: EncoderConfig = Field(EncoderConfig(), description="the encoder's network")
    decoder: DecoderConfig = Field(DecoderConfig(), description="the decoder's network")
    posterior: PosteriorConfig = Field(GaussianPosteriorConfig(), description="the family of q(z|x)")
    prior: PriorConfig = Field(StandardPriorConfig(), description="the prior p(z)")
    conditional: ConditionalConfig | None = Field(
        None, description="set (to {}, say) for a model of text given its label; the data then needs labels"
    )
    init: InitConfig = Field(InitConfig(), description="how parameters are drawn before training")

    @model_validator(mode="before")
    @classmethod
    def _prior_of_the_posterior(cls, settings: Any) -> Any:
        return fill_prior(settings)

    @model_validator(mode="after")
    def _families(self) -> "ModelConfig":
        check_families(self.posterior, self.prior, self.latent_dim, conditional=self.conditional is not None)
        return self

    @property
    def cells(self) -> str:
        """The kind of network, to be shown: ``LSTM``, ``GRU``, or ``LSTM-GRU`` where encoder and decoder differ."""
        used = [self.decoder.cell] if self.latent_dim == 0 else [self.encoder.cell, self.decoder.cell]
        return "-".join(cell.upper() for cell in dict.fromkeys(used))


class Refiner(Protocol):
    """A training method that improves q(z|x) sentence by sentence, also in evaluation."""

    config: BaseModel

    def refine(self, q: Posterior, batch: Batch, model: "SeqVAE") -> Posterior: ...


class SeqVAE(nn.Module):
    """A variational autoencoder over sentences; a language model where ``latent_dim`` is 0.

    With ``conditional`` settings it is p(x, z|y) = p(z) p(x|z, y) with q(z|x, y), for the label y of each sentence:
    the conditional VAE of Sohn et al. 2015, with z independent of y, which they allow. The posterior reads
    [features; e(y)] and the decoder [z; e'(y)] in place of z; every reported likelihood is then -log p(x|y).

    >>> model = SeqVAE(ModelConfig(latent_dim=2), vocab_size=7)
    >>> terms = model.terms(batch, samples=5)            # doctest: +SKIP
    >>> (terms.rec.mean(0) + terms.kl).mean()            # -ELBO in nats per sentence  # doctest: +SKIP
    """

    def __init__(self, config: ModelConfig, vocab_size: int, labels: Sequence[str] | None = None):
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.labels = None if config.conditional is None else require_labels(labels)
        """Names of the labels in the order of their numbers; None for a model that is not conditional."""
        self.refiners: tuple[Refiner, ...] = ()
        """Methods whose better q(z|x) ``encode`` gives; saved with the model."""
        self.encoder: Encoder | None = None
        self.posterior: nn.Module | None = None
        self.prior: nn.Module | None = None
        self.encoder_labels: nn.Embedding | None = None
        self.decoder_labels: nn.Embedding | None = None
        extra = 0 if config.conditional is None else config.conditional.embedding
        if config.latent_dim > 0:
            self.encoder = Encoder(config.encoder, vocab_size)
            if self.labels is not None:
                self.encoder_labels = nn.Embedding(len(self.labels), extra)
            self.posterior = build_posterior(config.posterior, self.encoder.features + extra, config.latent_dim)
            self.prior = build_prior(config.prior, config.latent_dim, self.encoder, self.posterior)
        if self.labels is not None:
            self.decoder_labels = nn.Embedding(len(self.labels), extra)
        self.decoder = Decoder(config.decoder, vocab_size, config.latent_dim + extra)
        for part in self.parts():
            self._draw(part)

    @property
    def latent_dim(self) -> int:
        return self.config.latent_dim

    @property
    def spherical(self) -> bool:
        """Whether codes lie on the unit sphere, and nowhere else."""
        return isinstance(self.prior, SpherePrior)

    @property
    def device(self) -> torch.device:
        return self.decoder.embedding.weight.device

    def parts(self) -> dict[str, list[nn.Module]]:
        """The halves that a method may train or reset apart: ``encoder`` (q) and ``decoder`` (p)."""
        parts = {
            "encoder": [self.encoder, self.encoder_labels, self.posterior],
            "decoder": [self.decoder, self.decoder_labels, self.prior],
        }
        present = {name: [module for module in modules if module is not None] for name, modules in parts.items()}
        return {name: modules for name, modules in present.items() if modules}

    def reset(self, part: str) -> None:
        """Draw the parameters of one part anew (from the global random state), but for those that are frozen."""
        for module in self.parts()[part]:
            for child in module.modules():
                if hasattr(child, "reset_parameters") and not _frozen(child):
                    child.reset_parameters()
        self._draw(part)

    def amortised(self, batch: Batch) -> Posterior | None:
        """q(z|x) as the encoder alone gives it; None for a language model."""
        if self.encoder is None:
            return None
        features = self.encoder(batch.tokens, batch.lengths)
        return self.posterior(self._labelled(features, batch.labels, self.encoder_labels))

    def decoder_input(
        self, z: Float[Tensor, "*S B Z"], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "*S B Y"]:
        """What the decoder reads as its code: z, and in a conditional model the label's embedding behind it.

        Raises E282 where a conditional model is not given the labels.
        """
        return self._labelled(z, labels, self.decoder_labels)

    def _labelled(
        self, values: Float[Tensor, "*S B _"], labels: Int[Tensor, " B"] | None, embedding: nn.Embedding | None
    ) -> Float[Tensor, "*S B _"]:
        if embedding is None:
            return values
        if labels is None:
            raise label_missing(self.labels)
        known = embedding(labels).expand(*values.shape[:-1], -1)
        return torch.cat([values, known.to(values.dtype)], dim=-1)

    def encode(self, batch: Batch) -> Posterior | None:
        """q(z|x) of each sentence, refined by the methods that do so; None for a language model."""
        q = self.amortised(batch)
        if q is None or not self.refiners:
            return q
        with torch.enable_grad():
            for refiner in self.refiners:
                q = refiner.refine(q, batch, self)
        return q if torch.is_grad_enabled() else q.detach()

    def terms(
        self,
        batch: Batch,
        samples: int = 1,
        *,
        q: Posterior | None = None,
        z: Float[Tensor, "S B Z"] | None = None,
        log_q: Float[Tensor, "S B"] | None = None,
        inputs: Batch | None = None,
        alike: bool = True,
        generator: torch.Generator | None = None,
    ) -> Terms:
        """Reconstruction and KL of each sentence under ``samples`` draws of z.

        ``q`` and ``z`` are used as given, else made here, and so is ``log_q``, the log-density of ``z``; ``inputs`` is
        what the decoder reads in place of ``batch`` (word dropout), while the targets stay those of ``batch``;
        ``alike``: the loss will weigh every ``rec`` alike (see `token_nll`). Where the KL has no closed form it is the
        mean of log q(z|x) - log p(z) over the draws.
        """
        q = self.encode(batch) if q is None else q
        kl, kl_dims, estimated = torch.zeros(len(batch), device=self.device), None, False
        if q is not None:
            z = q.rsample(samples, generator) if z is None else z
            closed = q.kl(self.prior)
            if closed is None:
                log_q = q.log_prob(z) if log_q is None else log_q
                closed, estimated = ((log_q - self.prior.log_prob(z)).mean(0), None), True
            kl, kl_dims = closed
        elif z is None:
            z = torch.zeros(samples, len(batch), 0, device=self.device)
        read = batch.tokens if inputs is None else inputs.tokens
        rec = self._rec(batch.tokens, self.decoder_input(z, batch.labels), read, alike=alike)
        return Terms(
            rec=rec,
            kl=kl,
            kl_dims=kl_dims,
            kl_estimated=estimated,
            z=z,
            known_log_q=log_q,
            q=q,
            prior=self.prior,
            tokens=batch.lengths - 1,
        )

    @torch.no_grad()
    def correct_tokens(self, batch: Batch, z: Float[Tensor, "B Z"]) -> Int[Tensor, " B"]:
        """How many tokens of each sentence (EOS counted) are the likeliest ones when teacher-forced from ``z``."""
        hidden = self.decoder(batch.tokens[:, :-1], self.decoder_input(z, batch.labels)).flatten(0, 1)
        best = token_argmax(hidden, self.decoder.output_weight, self.decoder.output_bias)
        targets = batch.tokens[:, 1:]
        return ((best.view_as(targets) == targets) & (targets != PAD)).sum(1)

    def _rec(
        self, tokens: Int[Tensor, "B T"], z: Float[Tensor, "S B Y"], inputs: Int[Tensor, "B T"], *, alike: bool
    ) -> Float[Tensor, "S B"]:
        """-log p(x|z), summed over the predicted tokens of each sentence; padding adds exactly nothing."""
        samples, sentences = z.shape[:2]
        hidden = self.decoder(inputs[:, :-1].repeat(samples, 1), z.flatten(0, 1))
        targets = tokens[:, 1:].repeat(samples, 1)
        weight, bias = self.decoder.output_weight, self.decoder.output_bias
        nll = token_nll(hidden.flatten(0, 1), weight, bias, targets.flatten(), ignored=PAD, alike=alike)
        return nll.view(samples, sentences, -1).sum(-1)

    @torch.no_grad()
    def _draw(self, part: str) -> None:
        init = self.config.init
        for module in self.parts()[part]:
            for child in module.modules():
                if _frozen(child):
                    continue
                if isinstance(child, nn.Embedding):
                    child.weight.uniform_(-init.embeddings, init.embeddings)
                elif init.weights is not None and isinstance(child, (nn.RNNBase, nn.Linear)):
                    for parameter in child.parameters():
                        parameter.uniform_(-init.weights, init.weights)


def _frozen(module: nn.Module) -> bool:
    """Whether its own parameters are all kept out of training."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
