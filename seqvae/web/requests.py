"""What the page may ask: every request, its bounds, and nothing else."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

LONGEST_TEXT = 4_000
"""Characters."""

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


class Request(BaseModel):
    """``label``: of the sentence, for a conditional model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str | None = Field(None, max_length=200)


class SentenceRequest(Request):
    text: Text
    neighbors: int = Field(8, ge=0, le=50)


class PathRequest(Request):
    a: Text
    b: Text
    steps: int = Field(21, ge=2, le=101)
    path: Literal["slerp", "lerp"] = "slerp"


class DecodeRequest(Request):
    z: list[FiniteFloat] = Field(max_length=4_096)


class Weighted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Text
    weight: float = Field(ge=-10, le=10)


class SumRequest(Request):
    terms: list[Weighted] = Field(min_length=1, max_length=12)


class SampleRequest(Request):
    n: int = Field(8, ge=1, le=50)
    temperature: float = Field(1.0, gt=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, lt=1 << 53)
    source: Literal["prior", "aggregate"] = "prior"


class FillRequest(Request):
    text: Text
    n: int = Field(5, ge=1, le=20)


class WalkRequest(Request):
    text: Text
    dim: int = Field(ge=0)
