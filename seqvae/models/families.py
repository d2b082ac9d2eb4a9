"""Which posterior goes with which prior, and which settings a family needs."""

from typing import Any

from seqvae.models.posterior import PosteriorConfig
from seqvae.models.posterior_delta import MOST_NATS_PER_DIM
from seqvae.models.prior import PriorConfig

DRAWN_BY_REJECTION = frozenset({"vmf"})
"""Posteriors whose samples are proposed until all are accepted: how often, the host learns from the device."""


def fill_prior(settings: Any) -> Any:
    """The settings of a model, with the one prior that a posterior on the sphere can have where none is given."""
    if not isinstance(settings, dict) or "prior" in settings:
        return settings
    posterior = settings.get("posterior")
    family = posterior.get("family") if isinstance(posterior, dict) else getattr(posterior, "family", None)
    return {**settings, "prior": {"family": "sphere"}} if family == "vmf" else settings


def check_families(
    posterior: PosteriorConfig, prior: PriorConfig, latent_dim: int, *, conditional: bool = False
) -> None:
    """Refuse what cannot go together, with the reason (ValueError, located by the config reader)."""
    if latent_dim == 0:
        return
    reason = conflict(posterior.family, prior.family)
    if reason:
        pair = f"posterior.family {posterior.family} and prior.family {prior.family}"
        raise ValueError(f"{pair} cannot go together: {reason}")
    if conditional and prior.family == "vamp":
        reason = "a posterior would need a label to read beside a pseudo-input, which has none"
        raise ValueError(f"conditional and prior.family vamp cannot go together: {reason}")
    if posterior.family == "vmf" and latent_dim == 1:
        raise ValueError("posterior.family vmf needs latent_dim 2 or more: on a line, the unit sphere is two points")
    if posterior.family == "delta" and posterior.delta_nats > MOST_NATS_PER_DIM * latent_dim:
        share = f"{MOST_NATS_PER_DIM:g} nats for each of the {latent_dim} dimensions"
        raise ValueError(f"posterior.delta_nats {posterior.delta_nats:g} is more than {share}; take a smaller rate")


def conflict(posterior: str, prior: str) -> str | None:
    """Why two families cannot go together; None where they can."""
    if (posterior == "vmf") != (prior == "sphere"):
        return "codes on the unit sphere have no density under a prior on all of the space, nor the reverse"
    if posterior in ("batchnorm", "delta") and prior != "standard":
        return "the least KL that this posterior keeps holds against N(0, I) alone, so take prior.family standard"
    if posterior == "iaf" and prior == "vamp":
        return "each density of this prior would invert the flow once for each of its components, a pass a dimension"
    return None
