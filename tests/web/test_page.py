"""The page in a real browser: what a person does, and what they then see."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from explored import ATTACK, SENTENCES

A, B = "the cat saw a cake", "my friend liked some tea at night"


def pixel_of(page, row: int) -> tuple[float, float]:
    """Where a sentence is drawn, in the window, by the coordinates that the server gives and the fit of the map."""
    xy = page.evaluate("async () => Array.from(new Float32Array(await (await fetch('api/map/pca')).arrayBuffer()))")
    xy = np.array(xy).reshape(-1, 2)
    box = page.locator("#over").bounding_box()
    low, high = xy.min(0), xy.max(0)
    scale = 0.9 * min(box["width"] / (high - low)[0], box["height"] / (high - low)[1])
    dx, dy = (xy[row] - (low + high) / 2) * scale
    return box["x"] + box["width"] / 2 + dx, box["y"] + box["height"] / 2 - dy


def alone(explorer) -> list[int]:
    """Sentences that lie far from all others on the map, the farthest first: a click on one cannot mean another."""
    xy = explorer.atlas.maps["pca"].xy
    apart = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) + 9 * np.eye(len(xy))
    return np.argsort(-apart.min(1)).tolist()


def click(page, row: int) -> None:
    page.mouse.click(*pixel_of(page, row))


def shown(text: str) -> str:
    """As the page writes a sentence."""
    return text or "(an empty sentence)"


def fragment(page) -> str:
    page.wait_for_timeout(450)  # the map has come to rest, and the address is written
    return page.evaluate("location.hash")


def shot(page) -> bytes:
    page.wait_for_timeout(250)
    return page.locator("#plane").screenshot()


def test_the_map_shows_every_sentence_in_colours(visit):
    page = visit()
    assert page.locator("#found").inner_text() == f"{SENTENCES} sentences"
    assert page.locator("#legend h3").inner_text() == "meal"
    colours = page.evaluate(
        "() => { const c = document.getElementById('points');"
        "const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);"
        "return new Set(d).size; }"
    )
    assert colours > 20
    assert page.title() == "small · seqvae explore"


def test_a_point_tells_its_sentence_and_a_click_its_code(visit, explorer):
    page, row = visit(), alone(explorer)[0]
    text = explorer.corpus.texts[row]
    page.mouse.move(*pixel_of(page, row))
    assert page.locator("#tip .text").inner_text() == text
    click(page, row)
    page.wait_for_selector("#back")
    assert page.locator("#page-sentence textarea").input_value() == text
    assert page.locator("#back").inner_text() == shown(explorer.vae.reconstruct([text])[0])
    assert page.locator(".unit-bar").count() == 5
    assert page.locator("#page-sentence .pick").count() == 8
    assert page.locator(".words li").count() > 4


def test_markup_in_the_corpus_is_shown_and_not_run(visit, explorer):
    page = visit()
    page.fill("#search", "<script>")
    page.press("#search", "Enter")
    page.wait_for_selector("#page-selection .pick")
    assert page.locator("#page-selection .pick .text").inner_text() == ATTACK
    page.click("#page-selection .pick")
    page.wait_for_selector("#back")
    assert page.locator("#page-sentence textarea").input_value() == ATTACK
    page.select_option("#colour", label="meal")
    assert "<b>drink</b>" in page.locator("#legend").inner_text()
    page.mouse.move(*pixel_of(page, 100))
    assert page.title() == "small · seqvae explore"
    assert page.locator("#legend b, main script, main img").count() == 0


def test_two_clicks_make_a_path_and_the_slider_moves_along_it(visit, explorer):
    page, (a, b) = visit("tab=path"), alone(explorer)[:2]
    before = shot(page)
    click(page, a)
    click(page, b)
    page.wait_for_selector("#step")
    texts = [explorer.corpus.texts[row] for row in (a, b)]
    expected = [shown(text) for _, text in explorer.vae.interpolate(*texts, 21)]
    assert page.locator("#step").inner_text() == expected[0]
    assert shot(page) != before
    for place in (10, 20):
        page.locator("#page-path input[type=range]").fill(str(place))
        assert page.locator("#step").inner_text() == expected[place]
    page.locator("#step").click()
    page.keyboard.press("[")
    assert page.locator("#step").inner_text() == expected[19]
    page.check("input[value=lerp]")
    straight = [shown(text) for _, text in explorer.vae.interpolate(*texts, 21, path="lerp")]
    page.wait_for_function("text => document.querySelector('#step').textContent === text", arg=straight[19])
    assert "log p(text | z)" in page.locator("#page-path").inner_text()
    assert page.locator("#page-path .chart .curve").count() == 1


def test_two_typed_sentences_make_a_path_too(visit, explorer):
    page = visit("tab=path")
    page.get_by_role("textbox", name="From").fill(A)
    page.get_by_role("textbox", name="To").fill(B)
    page.get_by_role("button", name="Walk").click()
    page.wait_for_selector("#step")
    assert page.locator("#step").inner_text() == shown(explorer.vae.reconstruct([A])[0])


def test_a_slider_of_a_unit_changes_the_text(visit, explorer):
    page = visit(f"tab=units&base={A}")
    page.wait_for_selector("input[data-dim]")
    live = {unit["dim"] for unit in explorer.about()["units"] if unit["active"]}
    dims = page.locator("input[data-dim]").evaluate_all("all => all.map(each => Number(each.dataset.dim))")
    assert set(dims) == (live or set(range(5)))
    seen = set()
    for dim in dims:
        for value in ("-3", "3"):
            page.locator(f"input[data-dim='{dim}']").fill(value)
            z = explorer.vae.encode([A]).mean[0].copy()
            z[dim] = explorer.atlas.spread.mean[dim] + float(value) * explorer.atlas.spread.deviation[dim]
            text = shown(explorer.vae.decode(z[None])[0])
            page.wait_for_function("text => document.querySelector('#moved').textContent === text", arg=text)
            seen.add(text)
        page.get_by_role("button", name="Reset").click()
    assert len(seen) > 1


def test_sentences_are_added_and_subtracted(visit, explorer):
    page = visit("tab=sum")
    for place, text in enumerate(("she ate a cake", A, B)):
        page.locator("#page-sum textarea").nth(place).fill(text)
    page.get_by_role("button", name="Add up").click()
    page.wait_for_selector("#sum")
    assert page.locator("#sum").inner_text() == shown(explorer.vae.analogy(A, "she ate a cake", B))


def test_samples_are_drawn_with_temperature_and_top_p(visit, explorer):
    page = visit("tab=sample")
    for label, value in (("How many", "5"), ("Temperature", "0.5"), ("Top-p", "0.8"), ("Seed", "3")):
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_selector("#page-sample .pick")
    from seqvae.web.requests import SampleRequest

    expected = explorer.sample(SampleRequest(n=5, temperature=0.5, top_p=0.8, seed=3))["texts"]
    assert page.locator("#page-sample .pick .text").all_inner_texts() == list(map(shown, expected))


def test_gaps_are_filled(visit, explorer):
    page = visit("tab=fill")
    page.locator("#page-fill textarea").fill("the ___ saw a cake")
    page.get_by_role("button", name="Fill", exact=True).click()
    page.wait_for_selector("#fillings .pick")
    expected = [each.text for each in explorer.vae.impute(["the ___ saw a cake"], 5)[0]]
    assert page.locator("#fillings .text").all_inner_texts() == expected
    assert page.locator("#fillings mark").count() == 5


def test_the_run_shows_its_curves_and_its_verdict(visit, explorer):
    page = visit("tab=run")
    assert page.locator("#page-run .chart").count() == 4
    page.get_by_role("button", name="Diagnose").click()
    page.wait_for_selector("#page-run .verdict-text")
    assert page.locator("#page-run .verdict-text").inner_text() == explorer.diagnose(wait=True)["verdict"]["text"]
    assert page.locator("#verdict").inner_text() in ("code in use", "collapsed", "no verdict")


def test_a_search_makes_what_it_finds_stand_out(visit, explorer):
    page = visit()
    before = shot(page)
    page.fill("#search", "TEA at")
    found = sum("tea at" in text for text in explorer.corpus.texts)
    told = "text => document.querySelector('#found').textContent === text"
    page.wait_for_function(told, arg=f"{found} of {SENTENCES} sentences")
    assert shot(page) != before


def test_a_lasso_lists_the_sentences_inside(visit, explorer):
    page, row = visit(), alone(explorer)[0]
    x, y = pixel_of(page, row)
    page.click("#lasso")
    page.mouse.move(x - 6, y - 6)
    page.mouse.down()
    for dx, dy in ((6, -6), (6, 6), (-6, 6), (-6, -6)):
        page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()
    page.wait_for_selector("#page-selection .pick")
    assert explorer.corpus.texts[row] in page.locator("#page-selection .pick .text").all_inner_texts()
    assert f"of {SENTENCES}" in page.locator("#found").inner_text()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save them, TSV").click()
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "line\ttext\tx\ty"
    assert explorer.corpus.texts[row] in {line.split("\t")[1] for line in lines[1:]}


def test_the_map_is_dragged_zoomed_and_fitted(visit):
    page = visit()
    first = shot(page)
    box = page.locator("#over").bounding_box()
    x, y = box["x"] + 30, box["y"] + 30
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 50, steps=4)
    page.mouse.up()
    dragged = shot(page)
    page.mouse.wheel(0, -400)
    zoomed = shot(page)
    assert len({first, dragged, zoomed}) == 3
    assert "zoom=" in fragment(page)
    page.click("#fit")
    page.mouse.move(2, 2)
    assert shot(page) == first
    assert "zoom=" not in fragment(page)


def test_the_map_is_coloured_by_length_nll_and_any_unit(visit):
    page = visit()
    seen = {shot(page)}
    for name in ("length", "nll", "dim-0", "dim-4"):
        page.select_option("#colour", name)
        page.wait_for_selector("#legend .ramp")
        page.wait_for_function("() => !document.querySelector('#found').textContent.startsWith('Working')")
        seen.add(shot(page))
    assert len(seen) == 5


def test_another_map_is_made_when_it_is_asked_for(visit, explorer):
    page = visit(f"text={A}")
    before = shot(page)
    page.select_option("#map", "tsne")
    page.wait_for_function("() => document.querySelector('#map').dataset.shown === 'tsne'", timeout=60_000)
    assert shot(page) != before
    assert "map=tsne" in fragment(page)


@pytest.mark.parametrize(
    ("view", "there"),
    [
        (f"tab=path&a={A}&b={B}&at=10&way=lerp", "#step"),
        (f"tab=units&base={A}&moves=0:2.5", "#moved"),
        ("tab=sample&n=3&drawn=1&temperature=0.7", "#page-sample .pick"),
    ],
)
def test_a_link_restores_the_view(visit, view, there):
    first = visit(view + "&colour=length&at_x=0.1&at_y=-0.2&zoom=2.000&theme=dark")
    first.wait_for_selector(there)
    texts = first.locator(there).all_inner_texts()
    link = fragment(first)
    again = visit(link.removeprefix("#"))
    again.wait_for_selector(there)
    again.wait_for_function(
        "([place, texts]) => texts === JSON.stringify("
        "[...document.querySelectorAll(place)].map(each => each.innerText))",
        arg=[there, json.dumps(texts, ensure_ascii=False, separators=(",", ":"))],
    )
    assert again.locator("#colour").input_value() == "length"
    assert fragment(again) == link
    assert again.evaluate("document.documentElement.style.colorScheme") == "dark"


def test_the_picture_is_saved_as_png_and_svg(visit):
    page = visit()
    for kind, begin in (("png", b"\x89PNG"), ("svg", b"<svg")):
        page.click("#save summary")
        with page.expect_download() as saved:
            page.click(f"[data-save={kind}]")
        content = Path(saved.value.path()).read_bytes()
        assert content.startswith(begin)
        assert saved.value.suggested_filename == f"map.{kind}"
    assert len(re.findall(b"<circle", content)) == SENTENCES


def test_points_are_saved_for_other_programs(visit):
    import pyarrow.parquet as pq

    page = visit()
    for kind in ("tsv", "parquet"):
        page.click("#save summary")
        with page.expect_download() as saved:
            page.click(f"[data-save={kind}]")
        content = Path(saved.value.path()).read_bytes()
        rows = content.count(b"\n") - 1 if kind == "tsv" else pq.read_table(io.BytesIO(content)).num_rows
        assert rows == SENTENCES


def test_keys_open_tabs_search_and_help_and_move_the_map(visit):
    page = visit()
    page.keyboard.press("2")
    assert page.locator("#tab-path").get_attribute("aria-selected") == "true"
    page.locator("#tab-path").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tab-units").get_attribute("aria-selected") == "true"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("2")
    assert page.locator("#tab-units").get_attribute("aria-selected") == "true"
    page.fill("#search", "")
    page.locator("#over").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert "zoom=1.4" in fragment(page)
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    page.wait_for_selector("#moved")
    assert page.locator("#page-units textarea").input_value()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1000, "dark"), (390, "light"), (390, "dark")])
def test_nothing_is_cut_off_and_text_is_readable_at_every_width(visit, width, scheme):
    page = visit(f"text={A}", width=width, color_scheme=scheme)
    page.wait_for_selector("#back")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for tab in ("path", "units", "sum", "sample", "fill", "run", "selection", "sentence"):
        page.locator(f"#tab-{tab}").click()
        assert page.locator(f"#page-{tab}").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    assert contrast(page, ".soft") >= 4.5
    assert contrast(page, "#back") >= 7


def contrast(page, place: str) -> float:
    """The least contrast of a text to what stands behind it (WCAG 2), of the first element."""
    found = page.evaluate(
        """place => { const e = document.querySelector(place); let b = e;
        while (getComputedStyle(b).backgroundColor === 'rgba(0, 0, 0, 0)') b = b.parentElement;
        return [getComputedStyle(e).color, getComputedStyle(b).backgroundColor]; }""",
        place,
    )
    light = []
    for colour in found:
        parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]])
        parts = parts / 255 if "srgb" not in colour else parts
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(light) + 0.05) / (min(light) + 0.05)
