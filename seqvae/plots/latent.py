"""The latent code: what each dimension costs, what a nat of it buys, and where sentences lie."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from seqvae.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Reports = Mapping[str, Mapping[str, Any]]
"""By the name of the run, the numbers that ``seqvae eval`` kept of a split."""


def kl_by_dimension(reports: Reports) -> "Figure":
    """The mean KL of each dimension, largest first: bars for one run, steps for several; those without it are not
    shown."""
    known = {name: np.sort(report["kl_dims_nats"])[::-1] for name, report in reports.items() if has_dimensions(report)}
    with style.figure(1, 1, width=4.6, height=3.0) as (drawn, (ax,)):
        for number, (name, values) in enumerate(known.items()):
            ranks = np.arange(1, len(values) + 1)
            if len(known) == 1:
                ax.bar(ranks, values, color=style.COLOURS[0], width=0.8)
                ax.set_xlim(0.4, len(values) + 0.6)
            else:
                ax.step(ranks, values, where="mid", label=name, **style.look(number))
        ax.set_ylim(bottom=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("dimensions, by their KL")
        ax.set_ylabel("KL, nats per sentence")
        ax.set_title(f"{_only(known)}KL by dimension: {sum(map(np.sum, known.values())) / len(known):.2f} nats in all")
        if len(known) > 1:
            ax.set_title("KL by dimension")
            ax.legend()
        return drawn


def has_dimensions(report: Mapping[str, Any]) -> bool:
    return bool(report.get("kl_dims_nats"))


def has_rate(report: Mapping[str, Any]) -> bool:
    return _rate(report) is not None


def _rate(report: Mapping[str, Any]) -> float | None:
    """The KL; 0 of a language model, which has no code, and None of an autoencoder, whose code has no noise."""
    kl, bound = report.get("kl_nats"), report.get("iw_nats")
    return 0.0 if kl is None and bound is not None else kl


def rate_distortion(reports: Reports) -> "Figure":
    """Each run at its rate (KL) and distortion (rec); along a diagonal the -ELBO is the same (Alemi et al. 2018).

    A single run far beyond all others (an autoencoder pays nothing for its rate) is drawn at the edge, with its rate.
    """
    known = {name: (_rate(report), report["rec_nats"]) for name, report in reports.items() if has_rate(report)}
    edge = _edge([rate for rate, _ in known.values()])
    with style.figure(1, 1, width=5.0, height=3.8) as (drawn, (ax,)):
        for number, (name, (rate, distortion)) in enumerate(known.items()):
            marker, colour = style.MARKERS[number % len(style.MARKERS)], style.COLOURS[number % len(style.COLOURS)]
            at, label, place, side = (rate, distortion), name, (6, 4), "left"
            if rate > edge:
                at, label, place, side = (edge, distortion), f"{name}, at {rate:.0f} →", (6, -14), "right"
            ax.plot(*at, marker=marker, color=colour, linestyle="none", markersize=6)
            ax.annotate(label, at, xytext=place, textcoords="offset points", fontsize=8, ha=side)
        ax.margins(0.18)
        _draw_equal_bounds(ax)
        ax.set_xlabel("rate: KL, nats per sentence")
        ax.set_ylabel("distortion: rec, nats per sentence")
        ax.set_title("What a nat of the code buys")
        return drawn


def _edge(rates: Sequence[float]) -> float:
    """Of the panel: the largest rate, or a quarter beyond the second where the largest is more than twice as far."""
    *others, largest = sorted(rates) or [0.0]
    return 1.25 * others[-1] if len(others) > 1 and largest > 2 * others[-1] else largest


def _draw_equal_bounds(ax: "Axes") -> None:
    """Diagonals of equal -ELBO, each with its number where it leaves the panel."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    left = max(left, -0.02 * right)
    for bound in MaxNLocator(6).tick_values(left + bottom, right + top):
        ax.plot([left, right], [bound - left, bound - right], color="#bbbbbb", linewidth=0.7, zorder=0)
        at = max(left, bound - top)
        if left <= at <= right and bottom <= bound - at <= top:
            ax.annotate(
                f"-ELBO {bound:g}",
                (at, bound - at),
                xytext=(8, -6),
                textcoords="offset points",
                va="top",
                fontsize=6.5,
                color="#888888",
                zorder=0,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)


def principal_plane(codes: Float[np.ndarray, "N Z"]) -> tuple[Float[np.ndarray, "N 2"], tuple[float, float]]:
    """The codes on their first two principal axes, and the share of their variance that each holds.

    The same codes always give the same map: the sign of an axis makes its largest loading positive.
    """
    from sklearn.decomposition import PCA

    points, shares = np.zeros((len(codes), 2)), np.zeros(2)
    if len(codes) > 1:  # one sentence has no variance
        pca = PCA(n_components=min(2, *codes.shape), svd_solver="full")
        found = pca.fit_transform(codes)
        points[:, : found.shape[1]] = found
        if pca.explained_variance_.any():
            shares[: found.shape[1]] = pca.explained_variance_ratio_
    return points, (float(shares[0]), float(shares[1]))


def latent_map(
    codes: Float[np.ndarray, "N Z"], by: str, labels: Sequence[str] | None = None, values: Sequence[float] | None = None
) -> "Figure":
    """Codes on their first two principal axes, coloured ``by`` labels (the six most frequent) or by numbers."""
    points, shares = principal_plane(codes)
    with style.figure(1, 1, width=5.6, height=4.4) as (drawn, (ax,)):
        size = float(np.clip(12_000 / len(points), 1.5, 16))
        if labels is None:
            cloud = ax.scatter(*points.T, c=values, s=size, cmap=style.SEQUENTIAL, linewidths=0, alpha=0.8)
            drawn.colorbar(cloud, label=by, shrink=0.8)
        else:
            _scatter_labels(ax, points, labels, size)
            ax.legend(title=by, markerscale=max(1.0, 5 / size**0.5), loc="center left", bbox_to_anchor=(1.0, 0.5))
        ax.set_xlabel(f"first principal axis ({shares[0]:.0%} of the variance)")
        ax.set_ylabel(f"second principal axis ({shares[1]:.0%})")
        ax.set_title(f"{len(points):,} sentences by their posterior means")
        return drawn


def _scatter_labels(ax: "Axes", points: np.ndarray, labels: Sequence[str], size: float) -> None:
    names, counts = np.unique(np.asarray(labels), return_counts=True)
    frequent = names[np.argsort(-counts, kind="stable")][: len(style.COLOURS) - 1]
    others = ~np.isin(labels, frequent)
    if others.any():
        ax.scatter(*points[others].T, s=size, color="#bbbbbb", linewidths=0, label="others")
    for number, name in enumerate(frequent):
        chosen = np.asarray(labels) == name
        look = {"color": style.COLOURS[number], "marker": style.MARKERS[number], "label": str(name)}
        ax.scatter(*points[chosen].T, s=size, linewidths=0, alpha=0.75, **look)


def _only(known: Mapping[str, Any]) -> str:
    return f"{next(iter(known))}, " if len(known) == 1 else ""
