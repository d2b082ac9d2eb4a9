"""Settings of the training loop (section ``train``) and of its phases."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seqvae.bounds import LARGEST_SEED
from seqvae.objectives.registry import AnyStrategyConfig, check_strategies


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AdamWConfig(_Settings):
    """AdamW (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0, description="learning rate after warm-up")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay rates of the two moments")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")


class SGDConfig(_Settings):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(1.0, gt=0, description="learning rate after warm-up")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")


OptimizerConfig = Annotated[AdamWConfig | SGDConfig, Field(discriminator="name")]


class ConstantConfig(_Settings):
    """The learning rate stays, after a linear warm-up."""

    name: Literal["constant"] = "constant"
    warmup_steps: int = Field(0, ge=0, description="updates of linear warm-up")


class CosineConfig(_Settings):
    """The learning rate falls to ``floor`` along half a cosine over the phase, after a linear warm-up."""

    name: Literal["cosine"] = "cosine"
    warmup_steps: int = Field(0, ge=0, description="updates of linear warm-up")
    floor: float = Field(0.0, ge=0, le=1, description="last learning rate, as a share of the first")


class PlateauConfig(_Settings):
    """The learning rate falls when validation stops improving (He et al. 2019, Li et al. 2019).

    Two things are not as in their code: it compares what follows a decay with the validation that led to it, here the
    best one counts throughout; and it makes new optimizers at each decay, which matters where they have momentum.
    """

    name: Literal["plateau"] = "plateau"
    warmup_steps: int = Field(0, ge=0, description="updates of linear warm-up")
    factor: float = Field(0.5, gt=0, lt=1, description="factor on the learning rate at each decay")
    patience: int = Field(2, ge=1, description="validations without improvement before a decay")
    start_epoch: int = Field(15, ge=0, description="no decay before this many epochs of the phase")
    max_decays: int | None = Field(5, ge=1, description="the phase ends at this many decays; null: never")
    reload_best: bool = Field(True, description="go back to the best weights at each decay")


ScheduleConfig = Annotated[ConstantConfig | CosineConfig | PlateauConfig, Field(discriminator="name")]

Monitor = Literal["auto", "elbo", "iw", "rec"]


class PhaseConfig(_Settings):
    """One phase of training; what is null is taken from ``objective`` and ``train``.

    Steps, best value, patience and learning rate are counted from the phase's start. The next phase starts from the
    best weights of this one.
    """

    name: str = Field(description="shown in the log")
    strategies: tuple[AnyStrategyConfig, ...] | None = Field(None, description="methods of this phase")
    samples: int | None = Field(None, ge=1, description="draws of z for each sentence")
    optimizer: OptimizerConfig | None = Field(None, description="optimizer of this phase")
    schedule: ScheduleConfig | None = Field(None, description="learning-rate schedule of this phase")
    epochs: int | None = Field(None, ge=1, description="at most this many epochs")
    steps: int | None = Field(None, ge=1, description="at most this many updates")
    patience: int | None = Field(None, ge=1, description="validations without improvement before the phase ends")
    monitor: Monitor | None = Field(None, description="what picks the best weights")
    reset: tuple[Literal["encoder", "decoder"], ...] = Field((), description="parts drawn anew at the phase's start")

    @model_validator(mode="after")
    def _compatible(self) -> "PhaseConfig":
        check_strategies(self.strategies or ())
        return self


class PretrainedEmbeddingsConfig(_Settings):
    """Word vectors that the token embeddings begin with."""

    path: Path = Field(description="word2vec, GloVe or fastText as text (plain or .gz), or a .safetensors file")
    freeze: bool = Field(False, description="keep the embeddings as they begin, those of words without a vector too")
    parts: tuple[Literal["encoder", "decoder"], ...] = Field(
        ("encoder", "decoder"), min_length=1, description="whose embeddings begin so"
    )


class TrainConfig(_Settings):
    """Settings of the training loop (section ``train``)."""

    seed: int = Field(
        0, ge=0, le=LARGEST_SEED, description="seed of the weights, the data order, the noise and the dropout"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto: CUDA, else MPS, else CPU")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the hardware gains by it")
    deterministic: bool = Field(
        False,
        description="only kernels that give the same bits each time: what a GPU needs for a resumed run to have those"
        " of one that was never stopped, at some cost in speed; a CPU gives them anyway",
    )
    cuda_graphs: bool = Field(
        False,
        description="on a GPU, capture the passes over each shape of batch once and replay them: for small batches,"
        " whose kernels the host cannot launch fast enough",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; null: as PyTorch chooses (saved with the run)")
    epochs: int = Field(40, ge=1, description="at most this many epochs, in each phase that names none")
    steps: int | None = Field(None, ge=1, description="at most this many updates, in each phase that names none")
    optimizer: OptimizerConfig = Field(AdamWConfig(), description="adamw or sgd, with its settings")
    schedule: ScheduleConfig = Field(ConstantConfig(), description="constant, cosine or plateau, with its settings")
    clip_norm: float = Field(5.0, gt=0, description="largest joint norm of the gradients")
    accumulate: int = Field(1, ge=1, description="batches summed into one update")
    average_decay: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="an exponential moving average of the weights over the updates of a phase, with this decay, is what"
        " is validated, kept and saved; null: the weights themselves",
    )
    micro_tokens: int | None = Field(
        None,
        ge=1,
        description="most tokens, padding included, that are computed at once: larger batches are cut, and the update"
        " stays the same; null: as the memory allows",
    )
    monitor: Monitor = Field(
        "auto",
        description="what picks the best weights: elbo (-ELBO at KL weight 1), iw (importance-weighted bound of as many"
        " samples as in training), rec; auto: elbo, rec at KL weight 0, or what a method asks for",
    )
    patience: int | None = Field(
        None, ge=1, description="validations without improvement that end a phase, for each that names none"
    )
    validate_every: int | None = Field(None, ge=1, description="updates between validations; null: each epoch")
    save_every: int | None = Field(None, ge=1, description="updates between checkpoints; null: at each validation")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints kept in the run")
    log_every: int = Field(50, ge=1, description="updates between lines of metrics")
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), description="other programs that are told of the run: tensorboard, wandb (Weights & Biases)"
    )
    on_divergence: Literal["stop", "rollback"] = Field(
        "stop",
        description="where loss or gradient is not finite: stop with exit code 5, or go back to the last checkpoint and"
        " lower the learning rate",
    )
    max_rollbacks: int = Field(3, ge=1, description="rollback: at most so often in a run")
    rollback_lr_factor: float = Field(0.5, gt=0, le=1, description="rollback: factor on the learning rate at each")
    pretrained_embeddings: PretrainedEmbeddingsConfig | None = Field(
        None, description="word vectors that the token embeddings begin with"
    )
    phases: tuple[PhaseConfig, ...] = Field((), description="phases in order; none: one phase made of these settings")
