"""A `RunPage` as HTML and as Markdown."""

import base64
import importlib.resources

import jinja2

from seqvae.pages.run_page import RunPage


def html(page: RunPage) -> str:
    """One self-contained file: figures inside, no script, nothing fetched, every text escaped."""
    return _template("run.html.j2", escaped=True).render(page=page)


def markdown(page: RunPage, figures: str | None = None) -> str:
    """Markdown; ``figures`` is the folder beside the page that has them as ``1.svg`` and so on, None for none."""
    return _template("run.md.j2", escaped=False).render(page=page, figures=figures)


def _template(name: str, *, escaped: bool) -> jinja2.Template:
    source = importlib.resources.files("seqvae.pages").joinpath(name).read_text(encoding="utf-8")
    made = jinja2.Environment(
        autoescape=escaped, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    made.filters |= {"data_uri": _data_uri, "cell": _cell}
    return made.from_string(source)


def _data_uri(svg: str) -> str:
    """As an image of its own, an SVG shares neither names nor styles with the page."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _cell(text: str) -> str:
    """A text in a table cell of Markdown: it neither ends the cell nor becomes markup."""
    for sign in "\\`*_{}[]<>#|~$":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
