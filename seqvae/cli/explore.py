"""``seqvae explore``."""

import contextlib
import importlib.util
import os
import socket
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli.console import run_verb, say
from seqvae.cli.options import (
    COLUMN_AND_LABELS,
    DeviceOption,
    ModelOption,
    Split,
    labels_of_input,
    load_model,
    naming_options,
    read_sentences,
    run_config,
    text_settings,
)
from seqvae.cli.progress import evaluation_display
from seqvae.cli.sentences import ColumnOption
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.data.sources import Source
    from seqvae.textvae import TextVAE
    from seqvae.web.corpus import Corpus
    from seqvae.web.explorer import Explorer

MOST_LABELLINGS = 12


@run_verb()
def explore(
    model: ModelOption = None,
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", "--input", metavar="FILE", help="The sentences.", show_default="the model's own text"),
    ] = None,
    column: ColumnOption = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="WORD",
            help="Colours from FILE.WORD.labels beside the text; may be repeated.",
            show_default="all that are there",
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the table that holds the labels.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Part of the model's own text that is shown.")] = "train",
    sentences: Annotated[
        int, typer.Option("--sentences", metavar="N", min=2, max=100_000, help="Most sentences on the map.")
    ] = 10_000,
    tsne: Annotated[bool, typer.Option("--tsne", help="Make the t-SNE map before the page opens.")] = False,
    umap: Annotated[bool, typer.Option("--umap", help="Make the UMAP map before the page opens.")] = False,
    host: Annotated[str, typer.Option(metavar="NAME", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    expose: Annotated[
        bool, typer.Option("--expose", help="Let other machines in, who know the token that is printed.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write the page as one HTML file, and serve nothing."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Look at the latent space in a browser: a map of sentences, the ways between them, what each unit does.

    The page is served to this machine alone, needs no network and asks nothing of any other site. With --export it
    becomes one file to share, with what it shows worked out beforehand.
    """
    for name in ("starlette", "uvicorn") if export is None else ():
        if importlib.util.find_spec(name) is None:
            hint = "pip install 'seqvae[explore]'; `--export page.html` needs neither"
            raise SeqVAEError("E256", f"the explorer needs {name}, which is not installed", hint=hint)
    listener = None if export is not None else _listen(host, port, expose=expose)
    with listener or contextlib.nullcontext():
        vae, folder = load_model(model, device)
        vae.need_latent("explore")
        reading = {"text_column": column, "label_column": label_column}
        if label_column is None:
            reading |= labels_of_input(folder, vae, corpus, otherwise="; of a table: --label-column")
        with naming_options(COLUMN_AND_LABELS):
            shown = _corpus(vae, folder, split, corpus, at_most=sentences, words=labels, **reading)
        explorer = _explorer(
            vae, shown, folder, [name for name, wanted in {"tsne": tsne, "umap": umap}.items() if wanted]
        )
        if listener is None:
            _write(explorer, export)
        else:
            _serve(explorer, listener, host, expose=expose, browser=not no_browser)


def _listen(host: str, port: int, *, expose: bool) -> socket.socket:
    """A socket that is bound before anything slow begins. Raises E257 and E258."""
    from seqvae.web.guard import is_loopback

    if not is_loopback(host) and not expose:
        what = f"{host} can be reached from other machines"
        raise SeqVAEError("E257", what, hint="add `--expose`: whoever has the token that is then printed gets in")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # where it lets a second server take a port that is served
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        what = f"cannot serve on {host}, port {port}: {error.strerror or error}"
        raise SeqVAEError("E258", what, hint="take another port: `--port 0` finds a free one") from None
    return listener


def _corpus(
    vae: "TextVAE",
    folder: Path,
    split: Split,
    file: Path | None,
    *,
    at_most: int,
    words: list[str] | None,
    **reading: str | bool | None,
) -> "Corpus":
    from seqvae.data.corpora import resolve
    from seqvae.web.corpus import draw_corpus

    store = read_sentences(folder, vae, split, file, options=COLUMN_AND_LABELS, **reading)
    data, part = text_settings(folder, split, file, **reading)
    source = resolve(data, required=[part])[part]
    labelled: dict[str, Source] = {}
    if source.labelled:
        labelled[data.labels if isinstance(data.labels, str) else data.label_column or "label"] = source
    for word in _words_beside(source) if words is None else words:
        labelled[word] = resolve(data.model_copy(update={"labels": word, "label_column": None}), required=[part])[part]
    name = f"{part} text" if file is None else file.name
    return draw_corpus(store, source, name=name, at_most=at_most, labelled=labelled)


def _words_beside(source: "Source") -> list[str]:
    """The kinds of labels in files beside a text: WORD of ``train.WORD.labels``."""
    from seqvae.data.sources import TextSource, has_columns

    texts = [TextSource.of(path) for path in source.paths if not has_columns(path.name)]
    return sorted({word for text in texts for word in text.kinds_of_labels()})[:MOST_LABELLINGS]


def _explorer(vae: "TextVAE", corpus: "Corpus", folder: Path, maps: list[str]) -> "Explorer":
    from seqvae.web.atlas import Atlas
    from seqvae.web.explorer import Explorer

    say(f"corpus   {len(corpus):,} of {corpus.total:,} sentences of the {corpus.name}")
    atlas = Atlas(vae, corpus)
    for name in maps:
        say(f"map      {name}, which may take minutes")
        atlas.map(name, wait=True)
    return Explorer(vae, atlas, folder=folder, config=run_config(folder))


def _serve(explorer: "Explorer", listener: socket.socket, host: str, *, expose: bool, browser: bool) -> None:
    import secrets

    import uvicorn

    from seqvae.web.server import create_app

    token = secrets.token_urlsafe(24) if expose else None
    app = create_app(explorer, host=host, token=token)
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    settings = {"limit_concurrency": 64, "timeout_keep_alive": 10, "timeout_graceful_shutdown": 1, "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, lifespan="off", **settings))
    say(f"explore  {address}")
    say("         Ctrl-C ends it" + ("; who has this address can use the model" if token else ""))
    if browser:
        timer = threading.Timer(0.5, webbrowser.open, [address])
        timer.daemon = True
        timer.start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _write(explorer: "Explorer", path: Path) -> None:
    from seqvae.io import disk
    from seqvae.web.page import single_page
    from seqvae.web.saved import saved_answers

    with evaluation_display(len(explorer.corpus)) as on_progress:
        page = single_page(saved_answers(explorer, on_progress=on_progress))
    disk.write_bytes(path, page.encode())
    say(f"page     {path}, {len(page) / 1e6:.1f} MB: it opens in any browser, without a server")
