"""Collapsed or not, on what evidence, and what to try next.

Judged by mutual information and the swap gap, not by the KL: free bits and the like guarantee a rate, which a model
can spend on noise that its decoder ignores.
"""

from dataclasses import dataclass, field

from seqvae.notebook import html

NEGLIGIBLE_NATS = 0.1
"""Information or swap gap (nats per sentence) below this is as good as none."""

SMALL_NATS = 0.5
"""An estimate whose upper limit (two standard errors) is above this is too rough to show that there is nothing."""

FEW_SENTENCES = 20
"""With fewer, chance decides: MI cannot exceed ln N and the swap gap has no usable error."""

_WORD_DROPOUT = "{name: word_dropout, rate: 0.4}"

NEAR_CEILING = 0.9
"""MI above this share of ln N is limited by the sample, not by the model."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``collapsed`` is None where the question does not arise or cannot be answered; ``text`` then says why."""

    collapsed: bool | None
    text: str
    evidence: list[str] = field(default_factory=list)
    next: str | None = None
    """What to try, with the setting; None where nothing is called for."""

    def _repr_html_(self) -> str:
        return html(self.text, *self.evidence, self.next or "")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The numbers that the verdict rests on, in nats per sentence; None where a family does not have them."""

    sentences: int
    latent_dim: int
    kl_nats: float | None
    mi_nats: float | None
    mi_se: float | None
    mi_ceiling_nats: float | None
    active_units: int | None
    swap_gap_nats: float | None
    swap_gap_se: float | None
    kl_splits: bool = True
    """Whether the KL splits by dimension."""
    kappa: float | None = None
    """Concentration of a posterior on the sphere, which fixes the KL: a floor under it would change nothing."""


def judge(seen: Evidence, *, noiseless: bool = False) -> Verdict:
    """The verdict on one evaluated split."""
    if seen.latent_dim == 0:
        return Verdict(collapsed=None, text="A language model (latent_dim 0): there is no latent code to collapse.")
    if noiseless:
        text = "A noiseless autoencoder: it has no KL and no prior, so posterior collapse does not apply to it."
        return Verdict(collapsed=None, text=text, evidence=_listing(seen))
    if seen.sentences < FEW_SENTENCES:
        text = f"Too few sentences to judge collapse: {seen.sentences}, where {FEW_SENTENCES} are needed."
        hint = "evaluate on more sentences: another --split, or a longer text with --input FILE"
        return Verdict(collapsed=None, text=text, evidence=_listing(seen), next=hint)
    silent = _is_none(seen.mi_nats, seen.mi_se)
    ignored = _is_none(seen.swap_gap_nats, seen.swap_gap_se)
    if silent or ignored:
        return _collapsed(seen, silent=silent, idle=_is_none(seen.kl_nats, None))
    unclear = [
        name
        for name, value, se in (("MI", seen.mi_nats, seen.mi_se), ("swap gap", seen.swap_gap_nats, seen.swap_gap_se))
        if value is not None and value < 2 * (se or 0.0)
    ]
    if unclear:
        # A code may be in use and the evidence for it weak, and then it is the evidence that is wanting.
        text = f"Cannot tell: the {' and the '.join(unclear)} may be chance, within two standard errors of 0."
        hint = "evaluate on more sentences: another --split, or a longer text with --input FILE"
        return Verdict(collapsed=None, text=text, evidence=_listing(seen), next=hint)
    return _in_use(seen)


def _is_none(value: float | None, se: float | None) -> bool:
    """Whether a quantity was found to be as good as zero, by an estimate that would have seen more."""
    return value is not None and value < NEGLIGIBLE_NATS and value + 2 * (se or 0.0) < SMALL_NATS


def _collapsed(seen: Evidence, *, silent: bool, idle: bool) -> Verdict:
    if silent and idle:
        text = "Collapsed: q(z|x) is the prior for every sentence, and the decoder works without z."
        hint = _larger_kappa(seen) or (
            f"give the KL a floor: add {_free_bits(seen)} to objective.strategies; or pre-train as an autoencoder, "
            "as in `--config recipes/ae_pretraining.yaml`"
        )
    elif silent:
        text = f"Collapsed: the KL of {seen.kl_nats:.2f} nats buys nothing, since z carries no information about x."
        beside = "beside free bits" if seen.kappa is None else f"or {_larger_kappa(seen)}"
        hint = f"weaken the decoder: add {_WORD_DROPOUT} to objective.strategies, {beside}"
    else:
        text = "Collapsed: z knows the sentence, but the decoder does as well with the z of another one."
        hint = (
            f"make the decoder need z: add {_WORD_DROPOUT} to objective.strategies, and keep model.decoder.z_to_input "
            "and z_to_state on"
        )
    return Verdict(collapsed=True, text=text, evidence=_listing(seen), next=hint)


def _larger_kappa(seen: Evidence) -> str | None:
    """None where the KL is not fixed by a setting."""
    if seen.kappa is None:
        return None
    return f"give z a larger KL, which its concentration fixes: --set model.posterior.kappa={2 * seen.kappa:g}"


def _free_bits(seen: Evidence) -> str:
    """A floor of 5 nats in all, spread evenly where the KL can be, as in the shipped recipe `ae_pretraining.yaml`."""
    variant = "" if seen.kl_splits else "variant: mean_total, "
    return f"{{name: free_bits, {variant}nats_per_dim: {5 / seen.latent_dim:.2g}}}"


def _in_use(seen: Evidence) -> Verdict:
    gain = "" if seen.swap_gap_nats is None else f": the right z saves {seen.swap_gap_nats:.2f} nats per sentence"
    live, units = seen.active_units, seen.latent_dim
    if live is not None and 2 * live < units:
        text = f"In use, in part{gain}, but only {live} of {units} units are active."
        hint = (
            f"spread the information over the units: add {_free_bits(seen)} to objective.strategies, or take fewer: "
            f"--set model.latent_dim={max(1, 2 * live)}"
        )
        return Verdict(collapsed=False, text=text, evidence=_listing(seen), next=hint)
    text = f"Not collapsed{gain}."
    if seen.mi_nats is not None and seen.mi_nats > NEAR_CEILING * seen.mi_ceiling_nats:
        text += " MI is at its ceiling ln N: more sentences could show more."
    return Verdict(collapsed=False, text=text, evidence=_listing(seen))


def _listing(seen: Evidence) -> list[str]:
    def error(se: float | None) -> str:
        return "" if se is None else f" ± {se:.2f}"

    lines = []
    if seen.kl_nats is not None:
        lines.append(f"KL {seen.kl_nats:.2f} nats")
    if seen.mi_nats is not None:
        lines.append(f"MI {seen.mi_nats:.2f}{error(seen.mi_se)} nats of at most {seen.mi_ceiling_nats:.2f}")
    if seen.active_units is not None:
        lines.append(f"{seen.active_units} of {seen.latent_dim} units active")
    if seen.swap_gap_nats is not None:
        lines.append(f"swap gap {seen.swap_gap_nats:.2f}{error(seen.swap_gap_se)} nats")
    return lines
