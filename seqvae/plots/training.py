"""The course of training: what the code costs and what it saves, update by update."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqvae.plots import style
from seqvae.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LATER = 0.4
"""Share of a training after which its curves are compared."""

PANELS = {
    "rec_nats": ("rec: the sentence given its code", "nats per sentence"),
    "kl_nats": ("KL: the cost of the code", "nats per sentence"),
    "elbo_nats": ("-ELBO", "nats per sentence"),
    "kl_weight": ("weight of the KL in the loss", "factor"),
    "active_units": ("active units", "dimensions"),
    "ppl_elbo": ("PPL by the ELBO, an upper bound", "per token"),
}
"""Series of a `History`, and what they are."""


def training_curves(histories: Sequence[History]) -> "Figure":
    """Training (lines) and validation (dots) of one run or several, by updates."""
    with style.figure(2, 3) as (drawn, axes):
        for ax, (series, (title, unit)) in zip(axes, PANELS.items(), strict=True):
            for number, history in enumerate(histories):
                _draw(ax, history, series, number)
            ax.set_title(title)
            ax.set_ylabel(unit)
            ax.set_xlabel("updates")
            ax.margins(x=0.02)
            if series == "ppl_elbo":
                ax.set_yscale("log")
            elif series == "active_units":
                ax.yaxis.get_major_locator().set_params(integer=True)
            elif series in ("rec_nats", "elbo_nats"):
                _leave_out_the_beginning(ax, histories, series)
        if len(histories) == 1:
            drawn.suptitle(histories[0].name, x=0.01, ha="left")
            _mark_phases(axes, histories[0])
        else:
            drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(histories)))
        return drawn


def _draw(ax: "Axes", history: History, series: str, number: int) -> None:
    """A line for training, dots for validation: joined where training does not have the series."""
    look, lined = style.look(number), series in history.train
    if lined:
        ax.plot(history.train["step"], history.train[series], label=history.name, **look)
    if series in history.valid:
        joined = look["linestyle"] if not lined else "none"
        marker = {"marker": style.MARKERS[number % len(style.MARKERS)], "markersize": 3.5, "linestyle": joined}
        ax.plot(history.valid["step"], history.valid[series], color=look["color"], **marker)


def _leave_out_the_beginning(ax: "Axes", histories: Sequence[History], series: str) -> None:
    """Training starts from chance, and a reset starts it anew: the panel shows the range of the later part, with some
    room above it, so that the runs are not a flat line under that peak."""
    parts = [part for each in histories for part in (each.train, each.valid) if series in part]
    later = np.concatenate([_finite(part[series][int(len(part[series]) * LATER) :]) for part in parts] or [[]])
    if len(later) > 1 and (spread := np.ptp(later)) > 0:
        ax.set_ylim(later.min() - 0.1 * spread, later.max() + spread)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _mark_phases(axes: "Sequence[Axes]", history: History) -> None:
    for ax in axes:
        for start, _ in history.phases[1:]:
            ax.axvline(start, color="#888888", linewidth=0.8, linestyle=(0, (1, 2)))
    if len(history.phases) > 1:
        for start, name in history.phases:
            weight = axes[list(PANELS).index("kl_weight")]
            weight.annotate(f" {name}", (start, 0.55), xycoords=("data", "axes fraction"), fontsize=7, color="#555555")
