"""Codes drawn from where the sentences of a corpus lie: a Gaussian mixture fitted to the aggregate posterior."""

import threading
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from seqvae.data.batching import collate, evaluation_plan
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import subset
from seqvae.evaluation.passes import evaluating, one_code
from seqvae.models.conditional import check_classes

COMPONENTS = 10
"""Of the mixture, where the sentences are enough (Ghosh et al. 2020, section 4)."""

SENTENCES_PER_COMPONENT = 10
"""For each latent dimension: with fewer, a covariance would be fitted to noise, and the mixture gets smaller."""

AT_MOST = 20_000
"""Sentences that a mixture is fitted to; of a larger corpus, a subset drawn by the seed."""


_WARNINGS = threading.Lock()
"""Held while warnings are silenced: their filters belong to the whole process, not to a thread."""


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """A mixture of C Gaussians in place of q(z) = E q(z|x), the mean taken over the ``sentences`` of a corpus."""

    weights: Float[Tensor, " C"]
    means: Float[Tensor, "C Z"]
    factors: Float[Tensor, "C Z Z"]
    """Lower Cholesky factors of the covariances."""
    sentences: int
    spherical: bool = False
    """Whether codes are scaled to length 1, as those of a model on the sphere are."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "n Z"]:
        """``n`` codes, on the CPU: a component by its weight, then a point of its Gaussian."""
        cdf = self.weights.double().cumsum(0)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        component = torch.searchsorted(cdf, uniform * cdf[-1], right=True).clamp_(max=len(cdf) - 1)
        z = torch.randn(n, self.means.shape[1], generator=generator)
        for index in component.unique().tolist():
            drawn = component == index
            z[drawn] = self.means[index] + z[drawn] @ self.factors[index].T
        return functional.normalize(z, dim=-1) if self.spherical else z


def fit_aggregate(
    model: nn.Module,
    store: TokenStore,
    *,
    components: int | None = None,
    seed: int = 0,
    noiseless: bool = False,
    spherical: bool = False,
    batch_tokens: int = 16_384,
) -> Aggregate:
    """Fit a mixture with full covariances to one draw of q(z|x) for each sentence, or to its mean if ``noiseless``.

    At most `AT_MOST` sentences; `COMPONENTS` components, fewer for a small corpus. The same seed gives the same
    mixture. An autoencoder has no prior, and the codes of a VAE need not lie where its prior has its mass: drawing
    from such a mixture serves both (Ghosh et al. 2020, "From variational to deterministic autoencoders"). Codes of a
    ``spherical`` model are drawn from it and scaled to length 1.

    Errors: E245 for fewer than two sentences, E246 for too many components, E234 for codes that are not finite.
    """
    rows = subset(len(store), AT_MOST, seed)
    check_classes(store.classes, model.labels)
    if len(rows) < 2:
        raise SeqVAEError("E245", f"a mixture needs two sentences or more, not {len(rows)}", hint="give it more text")
    if components is None:
        components = min(COMPONENTS, max(1, len(rows) // (SENTENCES_PER_COMPONENT * model.latent_dim)))
    elif not 1 <= components <= len(rows):
        what = f"{components} components cannot be fitted to {len(rows):,} sentences"
        raise SeqVAEError("E246", what, hint=f"give a whole number from 1 to {len(rows)}")
    z = torch.zeros(len(rows), model.latent_dim)
    with evaluating(model):
        for some in evaluation_plan(store.lengths[rows], batch_tokens=batch_tokens):
            q = model.encode(collate(store, rows[some]).to(model.device))
            z[torch.from_numpy(some)] = one_code(q, rows[some], seed, noiseless=noiseless).z[0].float().cpu()
    return replace(_mixture(z.double().numpy(), components, seed), spherical=spherical)


def _mixture(codes: Float[np.ndarray, "R Z"], components: int, seed: int) -> Aggregate:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if not np.isfinite(codes).all():
        raise SeqVAEError("E234", "a latent code holds NaN or infinity", hint="the model diverged: train it again")
    # scikit-learn keeps covariances away from 0 by a fixed amount, so the codes come to it at the scale of 1.
    scale = float(codes.std()) or 1.0
    mixture = GaussianMixture(components, init_params="k-means++", max_iter=200, random_state=seed % 2**32)
    with _WARNINGS, warnings.catch_warnings():
        # A mixture that could still gain a little is as good to draw from.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(codes / scale)
    return Aggregate(
        weights=torch.from_numpy(mixture.weights_).float(),
        means=torch.from_numpy(mixture.means_ * scale).float(),
        factors=torch.from_numpy(np.linalg.cholesky(mixture.covariances_) * scale).float(),
        sentences=len(codes),
    )
