"""``seqvae eval``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli.console import emit_json, narration, run_verb, say
from seqvae.cli.options import DeviceOption, JsonOption, ModelOption, chosen_model
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.data.store import TokenStore
    from seqvae.evaluation.report import EvalConfig
    from seqvae.textvae import TextVAE


@run_verb()
def evaluate(
    model: ModelOption = None,
    split: Annotated[str, typer.Option(help="train, valid or test of the model's own data.")] = "test",
    source: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Measure on this text instead, one sentence a line.")
    ] = None,
    iw_samples: Annotated[
        int | None,
        typer.Option(min=1, help="Samples of z per sentence for -ELBO and IW-NLL [default: the config's, 500]."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the samples [default: the config's, 0].")] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure a model: likelihood, perplexity, use of the latent code, reconstruction, and a verdict on collapse.

    All in nats per sentence. -ELBO = rec + KL bounds the negative log-likelihood from above, IW-NLL more tightly; PPL is
    exp(nats / predicted tokens), the end of a sentence counted. MI is over the whole split (ceiling: ln N); a unit is
    active where its mean varies by 0.01 or more; the swap gap is the rise of rec when sentences swap their codes.
    """
    from seqvae.io import pretrained
    from seqvae.textvae import evaluate as measure
    from seqvae.training.runtime import choose_device

    folder = pretrained.model_folder(chosen_model(model))
    vae = pretrained.load(folder, device=choose_device(device))
    settings, store, name = _material(folder, vae, split, source)
    changes = {"iw_samples": iw_samples, "seed": seed}
    settings = settings.model_copy(update={key: value for key, value in changes.items() if value is not None})
    with _progress(len(store)) as advance:
        report = measure(vae, store, split=name, config=settings, on_progress=advance)
    if source is None:
        _keep(folder, split, report.to_dict())
    if json:
        emit_json(report.to_dict())
    else:
        from rich.console import Console

        Console(highlight=False).print(report)


def _material(folder: Path, vae: "TextVAE", split: str, source: Path | None) -> tuple["EvalConfig", "TokenStore", str]:
    """The settings, the sentences and the name of what is measured."""
    from seqvae.config import Config
    from seqvae.data.sources import TextSource
    from seqvae.data.store import TokenStore, prepare
    from seqvae.evaluation.report import EvalConfig

    run_config = folder.parent / "config.yaml"
    config = Config.from_yaml(run_config) if run_config.is_file() else None
    settings = EvalConfig() if config is None else config.eval
    if source is not None:
        texts = [text for _, text in TextSource.of(source).lines()]
        return settings, TokenStore.from_texts(texts, vae.tokenizer), source.name
    if config is None:
        raise SeqVAEError(
            "E214",
            "this model folder does not say which text it belongs to",
            where=str(folder),
            hint="give `--input FILE`",
        )
    prepared = prepare(config.data, vae.tokenizer, splits=[split])
    for note in prepared.notes:
        say(f"note     {note}")
    return settings, prepared.splits[split], split


def _keep(folder: Path, split: str, report: dict) -> None:
    """Add the numbers to the model folder, where it may be written."""
    from seqvae.io import pretrained

    try:
        pretrained.keep_evaluation(folder, split, report)
    except SeqVAEError as error:
        say(f"note     the numbers were not kept in {folder}: {error.what}")


def _progress(sentences: int):
    import contextlib

    @contextlib.contextmanager
    def shown():
        console = narration()
        if not console.is_terminal:
            yield None
            return
        from rich.progress import Progress

        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("evaluating", total=sentences)
            yield lambda done, total: progress.update(bar, completed=done, total=total)

    return shown()
