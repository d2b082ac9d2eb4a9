"""The verdict at length: what was measured and what it means, which units live, and what to try in which order."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import ACTIVE_VARIANCE
from seqvae.evaluation.report import EvalReport
from seqvae.evaluation.verdict import NEAR_CEILING, NEGLIGIBLE_NATS, Verdict
from seqvae.notebook import Table, html
from seqvae.validation import plain
from seqvae.yaml_source import dump_value

IDLE_NATS = 0.01
"""A unit whose KL is below this costs nothing: its posterior is the prior."""

FLOOR_NATS = 5.0
"""The floor under the KL that is proposed where there is none: that of the recipes."""

REMEDIES = 3

QUICK = {"iw_samples": 5, "reconstructions": 1}
"""Settings of ``eval`` for a diagnosis: it rests on MI and the gaps, so that few samples of z will do; nothing is
read from reconstructions."""

_SPLIT = ("gaussian", "batchnorm", "delta")
"""Posterior families whose KL to the standard prior splits by dimension."""

State = Literal["live", "paid for nothing", "idle"]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One dimension of the code, numbered from 0."""

    number: int
    kl_nats: float | None
    mean_variance: float
    state: State
    """live: its mean varies by 0.01 or more; paid for nothing: it does not, but it has a KL; idle: neither."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number and what it says; nats per sentence."""

    name: str
    nats: float
    se: float | None
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """Settings to try, as they stand after ``--set``, and why."""

    settings: list[str]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    verdict: Verdict
    findings: list[Finding]
    units: list[Unit] | None
    """None for a model whose code does not split into units."""
    remedies: list[Remedy]
    """At most three, the first to be tried first; none where nothing is called for or nothing is known."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def _repr_html_(self) -> str:
        found = [
            (each.name, f"{each.nats:.2f}", "" if each.se is None else f"{each.se:.2f}", each.meaning)
            for each in self.findings
        ]
        parts: list[str | Table] = [self.verdict.text]
        parts.append(Table(title="Evidence, nats per sentence", columns=("", "value", "± se", "meaning"), rows=found))
        if self.units is not None:
            rows = [(str(unit.number), unit.kl_nats, unit.mean_variance, unit.state) for unit in self.units]
            parts.append(Table(title="Units", columns=("unit", "KL", "variance of mean", "state"), rows=rows))
        if self.remedies:
            tried = [(" ".join(f"--set {each}" for each in remedy.settings), remedy.reason) for remedy in self.remedies]
            parts.append(Table(title="What to try, in this order", columns=("settings", "why"), rows=tried))
        return html(*parts, "" if self.remedies else self.verdict.next or "")


def diagnose(report: EvalReport, config: Config | None = None) -> Diagnosis:
    """What ``report`` says about a model that was trained with ``config``, whose settings the remedies change."""
    return Diagnosis(
        verdict=report.verdict,
        findings=list(_findings(report)),
        units=_units(report),
        remedies=[] if config is None else _remedies(report, config),
    )


def _units(report: EvalReport) -> list[Unit] | None:
    """The units, those with the largest KL first (without a KL by dimension: the largest variance)."""
    if report.unit_variances is None:
        return None
    costs = report.kl_dims_nats or [None] * len(report.unit_variances)
    units = [
        Unit(number=i, kl_nats=kl, mean_variance=variance, state=_state(kl, variance))
        for i, (kl, variance) in enumerate(zip(costs, report.unit_variances, strict=True))
    ]
    return sorted(units, key=lambda unit: -(unit.mean_variance if unit.kl_nats is None else unit.kl_nats))


def _state(kl_nats: float | None, variance: float) -> State:
    if variance >= ACTIVE_VARIANCE:
        return "live"
    return "paid for nothing" if kl_nats is not None and kl_nats >= IDLE_NATS else "idle"


def _findings(report: EvalReport) -> Iterator[Finding]:
    kl, mi, swap, prior = report.kl_nats, report.mi_nats, report.swap_gap_nats, report.prior_gap_nats
    if kl is not None:
        meaning = "nothing: q(z|x) is the prior for every sentence" if kl < NEGLIGIBLE_NATS else "what the code costs"
        yield Finding(name="KL", nats=kl, se=None, meaning=meaning)
    if mi is not None:
        ceiling = report.mi_ceiling_nats
        if mi < NEGLIGIBLE_NATS:
            meaning = "the code tells nothing of its sentence"
        elif mi > NEAR_CEILING * ceiling:
            meaning = f"at its ceiling ln N = {ceiling:.2f}: more sentences could show more"
        else:
            share = f"{mi / kl:.0%} of the KL is" if kl else "it is"
            meaning = f"{share} information about the sentence; at most ln N = {ceiling:.2f} can be shown"
        yield Finding(name="MI", nats=mi, se=report.mi_se, meaning=meaning)
    if swap is not None:
        meaning = "what the decoder loses with the code of another sentence"
        if swap < NEGLIGIBLE_NATS:
            meaning = "the decoder does as well with the code of another sentence: it ignores z"
        yield Finding(name="swap gap", nats=swap, se=report.swap_gap_se, meaning=meaning)
    if prior is not None:
        meaning = "what it loses with a code drawn from the prior"
        if _prior_is_off(report):
            meaning += ": more than with another sentence's, so the prior draws from where no sentence lies"
        yield Finding(name="prior gap", nats=prior, se=report.prior_gap_se, meaning=meaning)
    if report.marginal_kl_nats is not None:
        meaning = "how far all codes together lie from the prior; samples suffer from it"
        yield Finding(name="marginal KL", nats=report.marginal_kl_nats, se=report.marginal_kl_se, meaning=meaning)


def _prior_is_off(report: EvalReport) -> bool:
    """Whether a code from the prior is worse than a wrong one, by a quarter and beyond three standard errors."""
    if report.swap_gap_nats is None or report.prior_gap_nats is None:
        return False
    rise, noise = report.prior_gap_nats - report.swap_gap_nats, (report.prior_gap_se or 0) + (report.swap_gap_se or 0)
    return rise > max(3 * noise, 0.25 * report.swap_gap_nats, NEGLIGIBLE_NATS)


Proposal = Callable[["_Plan"], Remedy | None]


def _remedies(report: EvalReport, config: Config) -> list[Remedy]:
    """The first three proposals for the case at hand that change something and that the settings allow."""
    plan, found = _Plan(config), []
    for propose in _case(report):
        remedy = propose(plan)
        if remedy is not None and plan.allows(remedy) and len(found) < REMEDIES:
            found.append(remedy)
    return found


def _case(report: EvalReport) -> list[Proposal]:
    collapsed = report.verdict.collapsed
    if collapsed is None:
        return []
    if collapsed and (report.kl_nats or 0) < NEGLIGIBLE_NATS:
        return [_kappa, _floor, _pretraining, _word_dropout, _batchnorm, _aggressive]
    if collapsed and report.mi_nats is not None and report.mi_nats < NEGLIGIBLE_NATS:
        return [_word_dropout, _kappa, _aggressive, _pretraining, _bag_of_words]
    if collapsed:
        return [_wire, _word_dropout, _skip, _bag_of_words]
    proposals = [_vamp] if _prior_is_off(report) else []
    if report.active_units is not None and 2 * report.active_units < report.latent_dim:
        proposals += [_floor, _batchnorm, lambda plan: _fewer_units(plan, report.active_units)]
    return proposals


class _Plan:
    """The settings of a run, and changed copies of its list of methods (of its last phase, where it has phases)."""

    def __init__(self, config: Config):
        self.config, self.phases = config, config.train.phases
        last = self.phases[-1].strategies if self.phases else None
        self.methods = [plain(each) for each in (config.objective.strategies if last is None else last)]

    def method(self, name: str) -> dict[str, Any] | None:
        return next((each for each in self.methods if each["name"] == name), None)

    def having(self, *changed: dict[str, Any]) -> str:
        """The ``--set`` under which the methods are as they are, but for those of these names."""
        new = {each["name"]: each for each in changed}
        methods = [new.pop(each["name"], each) for each in self.methods] + list(new.values())
        if not self.phases:
            return f"objective.strategies={dump_value(methods)}"
        phases = [plain(phase) for phase in self.phases]
        phases[-1]["strategies"] = methods
        return f"train.phases={dump_value(phases)}"

    def allows(self, remedy: Remedy) -> bool:
        try:
            return self.config.replace(*remedy.settings) != self.config
        except SeqVAEError:  # the methods, or the families, do not go together
            return False


def _kappa(plan: _Plan) -> Remedy | None:
    """In place of a floor, where the KL is a constant of the settings."""
    posterior = plan.config.model.posterior
    if posterior.family != "vmf":
        return None
    reason = "the concentration alone fixes the KL: a larger one makes room for more information (Xu and Durrett 2018)"
    return Remedy(settings=[f"model.posterior.kappa={2 * posterior.kappa:g}"], reason=reason)


def _floor(plan: _Plan) -> Remedy | None:
    if plan.config.model.posterior.family == "vmf":
        return None
    present = plan.method("free_bits")
    per_dim = 2 * present.get("nats_per_dim", 0.25) if present else FLOOR_NATS / plan.config.model.latent_dim
    variant = {} if _splits(plan) else {"variant": "mean_total"}
    method = {"name": "free_bits", **variant, **(present or {}), "nats_per_dim": float(f"{per_dim:.2g}")}
    what = "the floor is too low to be worth a code" if present else "early in training a code costs more than it gives"
    reason = f"{what}: a KL up to {FLOOR_NATS if not present else per_dim * plan.config.model.latent_dim:.3g} nats in "
    return Remedy(
        settings=[plan.having(method)],
        reason=f"{reason}all becomes free, so that all units can start to live (Kingma et al. 2016)",
    )


def _splits(plan: _Plan) -> bool:
    model = plan.config.model
    return model.posterior.family in _SPLIT and model.prior.family == "standard"


def _pretraining(plan: _Plan) -> Remedy | None:
    if plan.phases or plan.config.model.posterior.family == "vmf":  # its KL is not trained, so no phase can lift it
        return None
    floor = {"name": "free_bits", "variant": "sentence_dimension" if _splits(plan) else "mean_total"}
    floor["nats_per_dim"] = float(f"{FLOOR_NATS / plan.config.model.latent_dim:.2g}")
    phases = [
        {"name": "autoencoder", "strategies": [{"name": "beta", "beta": 0.0}]},
        {"name": "VAE", "reset": ["decoder"], "strategies": [{"name": "kl_annealing"}, floor]},
    ]
    reason = "an encoder that has learned to autoencode gives the new decoder a code worth reading from its first step"
    return Remedy(settings=[f"train.phases={dump_value(phases)}"], reason=f"{reason} (Li et al. 2019)")


def _word_dropout(plan: _Plan) -> Remedy | None:
    present = plan.method("word_dropout")
    before = 0.2 if present is None else present.get("rate", 0.4)
    if before >= 0.8:
        return None
    rate = min(0.8, round(before + 0.2, 2))
    reason = "a decoder that cannot lean on its own last words has to ask the code (Bowman et al. 2016)"
    return Remedy(settings=[plan.having({**(present or {}), "name": "word_dropout", "rate": rate})], reason=reason)


def _aggressive(plan: _Plan) -> Remedy | None:
    if plan.method("aggressive") is not None:
        return None
    reason = "the encoder lags behind the decoder: trained further before each update of it, as long as MI rises"
    return Remedy(settings=[plan.having({"name": "aggressive"})], reason=f"{reason} (He et al. 2019)")


def _batchnorm(plan: _Plan) -> Remedy | None:
    if plan.config.model.posterior.family != "gaussian":
        return None
    reason = "the means of every unit keep their spread by construction, with no schedule to tune (Zhu et al. 2020)"
    return Remedy(settings=["model.posterior={family: batchnorm}"], reason=reason)


def _bag_of_words(plan: _Plan) -> Remedy | None:
    if plan.method("bag_of_words") is not None:
        return None
    reason = "z alone has to say which words the sentence has, with no word before it to lean on (Zhao et al. 2017)"
    return Remedy(settings=[plan.having({"name": "bag_of_words"})], reason=reason)


def _wire(plan: _Plan) -> Remedy | None:
    off = [name for name in ("z_to_input", "z_to_state") if not getattr(plan.config.model.decoder, name)]
    reason = "the decoder sees z in one place only; at every step and at the start it is harder to overlook"
    return Remedy(settings=[f"model.decoder.{name}=true" for name in off], reason=reason) if off else None


def _skip(plan: _Plan) -> Remedy | None:
    reason = "a direct way from z to the output does not pass through the recurrent state (Dieng et al. 2019)"
    return Remedy(settings=["model.decoder.z_to_output=true"], reason=reason)


def _vamp(plan: _Plan) -> Remedy | None:
    if plan.config.model.prior.family != "standard":
        return None
    reason = "codes and prior lie apart: a prior that learns where the codes are draws better samples"
    return Remedy(settings=["model.prior={family: vamp}"], reason=f"{reason} (Tomczak and Welling 2018)")


def _fewer_units(plan: _Plan, active: int) -> Remedy:
    reason = "units that say nothing cost nothing, but a smaller code is easier to look at"
    return Remedy(settings=[f"model.latent_dim={max(1, 2 * active)}"], reason=reason)
