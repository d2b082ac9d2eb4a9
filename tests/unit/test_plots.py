"""Figures show the numbers that they were given, for the colour-blind too, and the same ones give the same file."""

import builtins
import itertools
import math

import numpy as np
import pytest

from seqvae.errors import SeqVAEError
from seqvae.plots import style
from seqvae.plots.latent import kl_by_dimension, latent_map, principal_plane, rate_distortion
from seqvae.plots.paths import path_heatmap
from seqvae.plots.training import PANELS, training_curves
from seqvae.training.history import History

matplotlib = pytest.importorskip("matplotlib")


def history(name="one", peak=50.0, phases=((0, "training"),)):
    steps = np.arange(10.0, 110.0, 10.0)
    falling = 20 + peak * np.exp(-steps / 15)
    train = {"step": steps, "rec_nats": falling, "kl_nats": 0.03 * steps, "elbo_nats": falling + 0.03 * steps}
    valid = {"step": steps[4::5], "rec_nats": falling[4::5], "elbo_nats": falling[4::5] + 1, "ppl_elbo": falling[4::5]}
    return History(name=name, train=train | {"kl_weight": steps / 100}, valid=valid, phases=list(phases))


def report(rec, kl, dims):
    return {"rec_nats": rec, "kl_nats": kl, "kl_dims_nats": dims}


def panel(figure, series):
    return figure.axes[list(PANELS).index(series)]


def test_curves_go_through_the_numbers_of_the_log():
    one = history()
    figure = training_curves([one])
    trained, validated = panel(figure, "rec_nats").lines
    assert trained.get_xdata().tolist() == one.train["step"].tolist()
    assert trained.get_ydata().tolist() == one.train["rec_nats"].tolist()
    assert (validated.get_linestyle(), validated.get_ydata().tolist()) == ("None", one.valid["rec_nats"].tolist())
    (only_validated,) = panel(figure, "ppl_elbo").lines
    assert only_validated.get_linestyle() == "-"
    assert not panel(figure, "active_units").lines


def test_the_peak_of_the_beginning_does_not_flatten_what_follows():
    bottom, top = panel(training_curves([history(peak=5_000.0)]), "rec_nats").get_ylim()
    later = history(peak=5_000.0).train["rec_nats"][4:]
    assert bottom < later.min() < later.max() < top < 1_000


def test_runs_are_told_apart_by_colour_and_by_dashes():
    looks = [style.look(number) for number in range(35)]
    assert len({str(look) for look in looks}) == 35
    assert len({str(look["linestyle"]) for look in looks[:5]}) == 5
    figure = training_curves([history(f"run {number}") for number in range(3)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["run 0", "run 1", "run 2"]


def test_colours_differ_in_lightness_so_that_grey_tells_them_apart():
    def lightness(colour):
        linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in matplotlib.colors.to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    values = [lightness(colour) for colour in style.COLOURS]
    assert all(abs(a - b) > 0.05 for a, b in itertools.pairwise(values))


def test_phases_are_marked_where_they_begin():
    two = history(phases=((0, "autoencoder"), (40, "free bits")))
    weight = panel(training_curves([two]), "kl_weight")
    assert [text.get_text().strip() for text in weight.texts] == ["autoencoder", "free bits"]
    assert [40, 40] in [list(line.get_xdata()) for line in weight.lines]


def test_bars_are_the_kl_of_each_dimension_from_the_largest():
    (ax,) = kl_by_dimension({"one": report(20.0, 1.75, [0.25, 1.0, 0.5])}).axes
    assert [bar.get_height() for bar in ax.patches] == [1.0, 0.5, 0.25]
    assert "1.75 nats in all" in ax.get_title(loc="left")


def test_runs_without_a_kl_by_dimension_are_left_out_of_the_steps():
    reports = {"a": report(20.0, 3.0, [1.0, 2.0]), "b": report(21.0, None, None), "c": report(19.0, 4.0, [3.0, 1.0])}
    (ax,) = kl_by_dimension(reports).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "c"]


def test_a_run_stands_at_its_rate_and_distortion_and_diagonals_are_equal_bounds():
    (ax,) = rate_distortion({"a": report(20.0, 3.0, None), "b": report(23.0, 0.5, None)}).axes
    points = [line.get_xydata()[0].tolist() for line in ax.lines if len(line.get_xdata()) == 1]
    assert points == [[3.0, 20.0], [0.5, 23.0]]
    diagonals = [line.get_xydata() for line in ax.lines if len(line.get_xdata()) == 2]
    assert len(diagonals) >= 3
    for ends in diagonals:
        assert math.isclose(ends[0].sum(), ends[1].sum())


def test_a_language_model_has_rate_zero_and_an_autoencoder_none():
    language_model = report(24.0, None, None) | {"iw_nats": 24.0}
    (ax,) = rate_distortion({"vae": report(20.0, 3.0, None), "lm": language_model, "ae": report(9.0, None, None)}).axes
    points = [line.get_xydata()[0].tolist() for line in ax.lines if len(line.get_xdata()) == 1]
    assert points == [[3.0, 20.0], [0.0, 24.0]]


def test_a_single_run_far_beyond_the_others_is_drawn_at_the_edge_with_its_rate():
    runs = {"a": report(20.0, 4.0, None), "b": report(23.0, 8.0, None), "ae": report(0.5, 125.2, None)}
    (ax,) = rate_distortion(runs).axes
    points = [line.get_xydata()[0].tolist() for line in ax.lines if len(line.get_xdata()) == 1]
    assert points == [[4.0, 20.0], [8.0, 23.0], [10.0, 0.5]]
    assert {"a", "b", "ae, at 125 →"} <= {text.get_text() for text in ax.texts}
    (ax,) = rate_distortion(runs | {"ae": report(0.5, 16.0, None)}).axes
    assert {"a", "b", "ae"} <= {text.get_text() for text in ax.texts}


def test_the_plane_is_that_of_the_largest_variance():
    draw = np.random.default_rng(0)
    codes = draw.normal(size=(500, 5)) * np.array([0.1, 3.0, 0.1, 1.5, 0.1]) + 7
    points, shares = principal_plane(codes)
    assert abs(np.corrcoef(points[:, 0], codes[:, 1])[0, 1]) > 0.999
    assert abs(np.corrcoef(points[:, 1], codes[:, 3])[0, 1]) > 0.99
    np.testing.assert_allclose(shares, points.var(0) / codes.var(0).sum(), rtol=1e-6)
    np.testing.assert_array_equal(points, principal_plane(codes)[0])


def test_a_map_of_one_dimension_or_of_one_sentence_is_drawn():
    assert principal_plane(np.array([[1.0], [3.0], [2.0]]))[1][0] == 1.0
    assert np.array_equal(principal_plane(np.ones((1, 4)))[0], np.zeros((1, 2)))


def test_a_map_names_its_labels_and_greys_those_beyond_six():
    draw = np.random.default_rng(1)
    labels = [f"label {min(number, number % 11)}" for number in range(99)]
    (ax,) = latent_map(draw.normal(size=(99, 3)), "topic", labels=labels).axes
    legend = ax.get_legend()
    assert legend.get_title().get_text() == "topic"
    assert len(legend.get_texts()) == 7
    assert legend.get_texts()[0].get_text() == "others"
    assert sum(len(each.get_offsets()) for each in ax.collections) == 99


def test_a_heatmap_shows_each_text_at_each_point():
    values = np.arange(12.0).reshape(3, 4)
    ax, _ = path_heatmap([0.0, 1 / 3, 2 / 3, 1.0], ["a $5 bill", "x" * 80, ""], values).axes
    np.testing.assert_array_equal(ax.images[0].get_array(), values)
    assert [label.get_text() for label in ax.get_yticklabels()] == [r"a \$5 bill", "x" * 47 + "…", ""]


@pytest.mark.parametrize("form", style.FORMATS)
def test_the_same_figure_is_the_same_file(tmp_path, form):
    first, second = (
        style.save(training_curves([history()]), tmp_path / name, "training", [form])[0] for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 1_000


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **given):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError("No module named 'matplotlib'")
        return real(name, *rest, **given)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SeqVAEError, match="matplotlib") as caught:
        training_curves([history()])
    assert (caught.value.code, caught.value.hint) == ("E273", "install it: `pip install 'seqvae[plots]'`")
