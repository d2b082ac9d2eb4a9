"""Which posterior goes with which prior, and which settings a family needs."""

from seqvae.models.posterior import PosteriorConfig
from seqvae.models.posterior_delta import MOST_NATS_PER_DIM
from seqvae.models.prior import PriorConfig


def check_families(posterior: PosteriorConfig, prior: PriorConfig, latent_dim: int) -> None:
    """Refuse what cannot go together, with the reason (ValueError, located by the config reader)."""
    if latent_dim == 0:
        return
    if posterior.family == "delta" and posterior.delta_nats > MOST_NATS_PER_DIM * latent_dim:
        share = f"{MOST_NATS_PER_DIM:g} nats for each of the {latent_dim} dimensions"
        raise ValueError(f"posterior.delta_nats {posterior.delta_nats:g} is more than {share}; take a smaller rate")
