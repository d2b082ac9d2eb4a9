"""``seqvae export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqvae.cli.console import emit_json, emit_lines, run_verb, say
from seqvae.cli.options import JsonOption, ModelOption, load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@run_verb()
def export(
    onnx: Annotated[Path, typer.Option("--onnx", metavar="DIR", help="Folder to write, new or an earlier export.")],
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Write a model as ONNX, to be used without PyTorch and without seqvae.

    encoder.onnx (tokens to mean and logvar), decoder_start.onnx (z to the first state), decoder_step.onnx (a token to
    the logits of the next), the tokenizer, and onnx.json, which says the names and shapes and the special tokens. Each
    graph is run by onnxruntime and compared with the model before anything is written. Needs
    `pip install 'seqvae[onnx]'`.
    """
    from seqvae.io.onnx_export import DESCRIPTION, export_onnx

    vae, _ = load_model(model, "cpu")
    description = export_onnx(vae, onnx)
    say(f"checked  every graph gives what the model gives, within {description['largest_difference']:.0e}")
    if json:
        emit_json(description)
    else:
        emit_lines([*_graph_lines(onnx, description["graphs"]), f"{onnx / DESCRIPTION}  what all of it means"])


def _graph_lines(folder: Path, graphs: "Mapping[str, Any]") -> "Iterator[str]":
    for graph in graphs.values():
        yield f"{folder / graph['file']}  {', '.join(graph['inputs'])} -> {', '.join(graph['outputs'])}"
