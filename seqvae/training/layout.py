"""The files of a run folder, by name."""

CONFIG, PROVENANCE, METRICS, LOG = "config.yaml", "provenance.json", "metrics.jsonl", "log.txt"
CHECKPOINTS, MODEL, TOKENIZER = "checkpoints", "model", "tokenizer"
TENSORBOARD, WANDB = "tensorboard", "wandb"
