"""Models of a sentence given a label: what is added to q(z|x) and p(x|z)."""

import difflib
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from seqvae.errors import SeqVAEError

_SHOWN = 20


class ConditionalConfig(BaseModel):
    """Settings of a conditional model (``model.conditional``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: int = Field(
        16, ge=1, description="size of a label's embedding, one for the encoder, one for the decoder"
    )


def require_labels(labels: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the labels that a conditional model is made for. Raises E281 where there are none."""
    if not labels:
        what = "`model.conditional` asks for a model of text given its label, and the text has no labels"
        hint = "name them with `data.labels` or `data.label_column`, or leave `model.conditional` out"
        raise SeqVAEError("E281", what, hint=hint)
    return tuple(labels)


def label_number(label: str, labels: Sequence[str] | None) -> int:
    """The number of a label by its name. Raises E283 for an unknown one, E284 for a model without labels."""
    if labels is None:
        what = f"there is no label {label!r}: this model was not trained with labels"
        raise SeqVAEError("E284", what, hint="leave the label away, or train with `--set model.conditional={}`")
    if label not in labels:
        close = difflib.get_close_matches(label, labels, n=1)
        hint = (f"did you mean {close[0]!r}? " if close else "") + f"the labels are {_names(labels)}"
        raise SeqVAEError("E283", f"there is no label {label!r} in this model", hint=hint)
    return list(labels).index(label)


def label_missing(labels: Sequence[str]) -> SeqVAEError:
    """What a conditional model says (E282) where it is not told the label."""
    hint = f"name it with `--label`, in Python `label=...`; the labels are {_names(labels)}"
    return SeqVAEError("E282", "this model is conditional: it needs the label of each sentence", hint=hint)


def check_classes(classes: Sequence[str] | None, labels: Sequence[str] | None) -> None:
    """Raises E285 where a text numbers its labels in another way than the model does."""
    if labels is not None and classes is not None and tuple(classes) != tuple(labels):
        what = f"the text has the labels {_names(classes)}, and the model knows {_names(labels)}"
        raise SeqVAEError("E285", what, hint="use labels of the kind that the model was trained with")


def _names(labels: Sequence[str]) -> str:
    return ", ".join(repr(label) for label in labels[:_SHOWN]) + (", ..." if len(labels) > _SHOWN else "")
