"""What a user can get wrong, by area; `test_messages` holds each against what is answered. Its docstring says how to
add one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake: what is typed after ``seqvae``, in a folder with the text and the config of `user_toys`."""

    name: str
    """Of its file under messages/."""
    command: str
    """As in a shell, quotes and all."""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    """Files that are written into the folder first."""
    stdin: str | bytes | None = None
    model: Callable[[Path], None] | None = None
    """With it the folder has runs/vae, runs/ae and runs/lm, trained; it is called with the folder, to damage them."""
    leaves: tuple[str, ...] = ()
    """Files that may be there afterwards that were not before, or that may have changed: by default none."""


def as_they_are(folder: Path) -> None:
    """The trained models, whole."""


def _damage(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "runs/vae/model" / name
        path.write_bytes(path.read_bytes()[:-7] + b"changed")

    return damage


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "runs/vae/model" / name).unlink()


def _no_model(folder: Path) -> None:
    """A run that was stopped before its first validation."""
    import shutil

    shutil.rmtree(folder / "runs/vae/model")


def _newer(folder: Path) -> None:
    """A model folder of a later release, whole in itself."""
    import json

    from seqvae.io import disk, storage

    with storage.atomic_folder(folder / "runs/vae/model", amend=True) as model:
        description = json.loads((model / "config.json").read_text(encoding="utf-8"))
        description |= {"schema_version": 1000, "seqvae_version": "1000.0"}
        disk.write_json(model / "config.json", description)


def config(text: str) -> dict[str, str]:
    return {"mine.yaml": text}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)

CONFIG = [
    Mistake(name="config-no-such-file", command="train --config smal.yaml"),
    Mistake(name="config-no-such-name", command="train --config recipes/free_bit"),
    Mistake(
        name="config-unknown-key",
        command="train --config mine.yaml",
        files=config("data: {train: train.txt, valid: valid.txt}\ntrain:\n  stpes: 500\n"),
    ),
    Mistake(
        name="config-unknown-section", command="train --config mine.yaml", files=config("training:\n  steps: 500\n")
    ),
    Mistake(
        name="config-wrong-type",
        command="train --config mine.yaml",
        files=config("data: {train: train.txt}\ntrain:\n  epochs: ten\n"),
    ),
    Mistake(
        name="config-out-of-range",
        command="train --config mine.yaml",
        files=config("data: {train: train.txt, valid_fraction: 0.9}\n"),
    ),
    Mistake(
        name="config-unknown-method",
        command="train --config mine.yaml",
        files=config("objective:\n  strategies:\n    - {name: free_bit, nats_per_dim: 0.3}\n"),
    ),
    Mistake(
        name="config-shards-of-a-file",
        command="train --config mine.yaml",
        files=config("data: {train: train.txt, valid: valid.txt, shards: true}\n"),
    ),
    Mistake(name="config-value-for-a-section", command="train --config mine.yaml", files=config("train: 5\nmodel:\n")),
    Mistake(
        name="config-duplicate-key",
        command="train --config mine.yaml",
        files=config("train:\n  epochs: 3\n  seed: 1\n  epochs: 4\n"),
    ),
    Mistake(name="config-tab", command="train --config mine.yaml", files=config("train:\n\tepochs: 3\n")),
    Mistake(name="config-not-a-mapping", command="train --config mine.yaml", files=config("- train\n- eval\n")),
    Mistake(name="config-anchors-bomb", command="train --config mine.yaml", files=config(BOMB)),
    Mistake(name="config-tag", command="train --config mine.yaml", files=config("train: !!python/name:os.system\n")),
    Mistake(name="config-open-quote", command="train --config mine.yaml", files=config('data:\n  train: "train.txt\n')),
    Mistake(name="config-two-documents", command="train --config mine.yaml", files=config("train:\n---\neval:\n")),
    Mistake(
        name="config-not-utf8",
        command="train --config mine.yaml",
        files={"mine.yaml": "# caf\u00e9\ntrain: {epochs: 3}\n".encode("latin1")},
    ),
    Mistake(
        name="config-several-mistakes",
        command="config validate mine.yaml",
        files=config("data:\n  trian: train.txt\nmodel:\n  latent_dim: -3\ntrain:\n  epochs: ten\n  stpes: 4\n"),
    ),
    Mistake(name="set-without-equals", command="train --config small.yaml --set train.steps"),
    Mistake(name="set-unknown-name", command="train --config small.yaml --set train.stpes=3"),
    Mistake(name="set-unknown-section", command="train --config small.yaml --set trian.steps=3"),
    Mistake(name="set-wrong-value", command="train --config small.yaml --set train.steps=many"),
    Mistake(name="sample-seed-too-large", command=f"sample --model runs/vae --seed {10**30}"),
    Mistake(name="config-explain-a-number", command="config explain 1"),
    Mistake(name="set-too-few-values", command="train --config small.yaml --set train.optimizer.betas=[]"),
    Mistake(name="set-too-many-values", command="train --config small.yaml --set train.optimizer.betas=[1,2,3]"),
    Mistake(name="set-below-a-value", command="train --config small.yaml --set train.seed.x=3"),
    Mistake(name="set-no-value", command="train --config small.yaml --set train.steps="),
    Mistake(name="set-comment-in-the-value", command="train --config small.yaml --set 'data.train=a.txt # mine'"),
    Mistake(name="set-without-config", command="train --set train.steps=3"),
    Mistake(name="train-without-config", command="train"),
    Mistake(name="train-no-such-device", command="train --config small.yaml --set train.device=cuda:99"),
    Mistake(name="train-without-validation-text", command="train --config small.yaml --set data.valid=null"),
    Mistake(name="train-unknown-corpus", command="train --config mine.yaml", files=config("data: {corpus: tyni}\n")),
    Mistake(name="train-no-text", command="train --config mine.yaml", files=config("train: {epochs: 1}\n")),
    Mistake(name="train-two-validation-texts", command="train --config small.yaml --set data.valid_fraction=0.1"),
    Mistake(
        name="train-reset-of-a-part-that-is-not-there",
        command="train --config small.yaml --set 'train.phases=[{name: x, reset: [encoder]}]' --set model.latent_dim=0",
    ),
    Mistake(
        name="train-monitor-of-an-autoencoder",
        command="train --config small.yaml --set 'objective.strategies=[{name: autoencoder}]' --set train.monitor=elbo",
    ),
    Mistake(
        name="train-monitor-of-a-later-phase",
        command="train --config small.yaml --set 'train.phases=[{name: a, steps: 1}, "
        "{name: b, strategies: [{name: autoencoder}], monitor: elbo}]'",
    ),
    Mistake(name="config-validate-right", command="config validate small.yaml"),
    Mistake(
        name="config-validate-set", command="config validate small.yaml --set train.stpes=3 --set model.latent_dim=x"
    ),
    Mistake(name="config-show-no-such-name", command="config show tinny"),
    Mistake(name="config-explain-unknown", command="config explain train.schedule.patiense"),
    Mistake(name="config-explain-far-off", command="config explain zzz"),
    Mistake(name="config-explain-setting", command="config explain train.clip_norm"),
    Mistake(name="explain-code", command="explain E203"),
    Mistake(name="explain-unknown-code", command="explain E2044"),
    Mistake(name="init-no-such-file", command="init trian.txt"),
    Mistake(name="init-empty-file", command="init e.txt", files={"e.txt": ""}),
    Mistake(name="init-one-sentence", command="init one.txt", files={"one.txt": "a single line\n"}),
    Mistake(name="init-config-exists", command="init train.txt --out small.yaml"),
    Mistake(name="init-standard-input", command="init -", stdin="a b\nc d\n"),
    Mistake(name="init-no-such-column", command="init a.csv", files={"a.csv": "review,stars\nfine,5\ngood,4\n"}),
    Mistake(name="runs-no-such-folder", command="runs list nope"),
    Mistake(name="runs-none", command="runs list here", files={"here/readme": ""}),
    Mistake(name="runs-rm-no-such-run", command="runs rm nope --yes"),
    Mistake(name="runs-rm-no-run", command="runs rm runs --yes", files={"runs/notes.txt": ""}),
    Mistake(
        name="runs-rm-nobody-to-ask",
        command="runs rm old",
        files={"runs/old/config.yaml": "{}", "runs/old/provenance.json": "{}"},
    ),
]

DATA = [
    Mistake(name="data-no-such-file", command="train --config small.yaml --set data.train=trian.txt"),
    Mistake(name="data-a-folder", command="train --config small.yaml --set data.train=.."),
    Mistake(name="data-empty-file", command="train --config small.yaml --set data.train=e.txt", files={"e.txt": ""}),
    Mistake(
        name="data-blank-lines-only",
        command="train --config small.yaml --set data.train=e.txt",
        files={"e.txt": "\n \n\n"},
    ),
    Mistake(
        name="data-not-utf8",
        command="train --config small.yaml --set data.train=latin.txt",
        files={"latin.txt": "fine\nun caf\u00e9\n".encode("latin1")},
    ),
    Mistake(
        name="data-nul-byte",
        command="train --config small.yaml --set data.train=nul.txt",
        files={"nul.txt": b"fine\na\0b\n"},
    ),
    Mistake(
        name="data-damaged-gzip",
        command="train --config small.yaml --set data.train=a.gz",
        files={"a.gz": b"\x1f\x8b\x08\x00broken"},
    ),
    Mistake(
        name="data-one-line-to-split",
        command="train --config mine.yaml",
        files=config("data: {train: one.txt, valid_fraction: 0.1}\n") | {"one.txt": "a single line\n"},
    ),
    Mistake(
        name="data-too-long-is-an-error",
        command="train --config small.yaml --set data.max_length=2 --set data.too_long=error",
    ),
    Mistake(name="data-all-too-long", command="train --config small.yaml --set data.max_length=1"),
    Mistake(name="data-no-frequent-word", command="train --config small.yaml --set tokenizer.min_freq=1000"),
    Mistake(
        name="data-valid-without-a-known-word",
        command="train --config small.yaml --set data.valid=other.txt",
        files={"other.txt": "ganz andere worte\n"},
    ),
    Mistake(
        name="data-utf16",
        command="train --config small.yaml --set data.train=wide.txt",
        files={"wide.txt": "fine\n".encode("utf-16")},
    ),
    Mistake(
        name="data-sentence-without-end",
        command="data prepare endless.txt",
        files={"endless.txt": "fine\n" + "word " * 100_001 + "\n"},
    ),
    Mistake(
        name="data-no-such-column",
        command="train --config small.yaml --set data.train=t.csv",
        files={"t.csv": "id,texts\n1,fine\n"},
    ),
    Mistake(
        name="data-no-such-column-in-a-row",
        command="train --config small.yaml --set data.train=t.jsonl",
        files={"t.jsonl": '{"text": "fine"}\n{"id": 7}\n'},
    ),
    Mistake(
        name="data-text-is-null",
        command="train --config small.yaml --set data.train=t.jsonl",
        files={"t.jsonl": '{"text": "fine"}\n{"text": null}\n'},
    ),
    Mistake(
        name="data-text-is-a-number",
        command="data prepare t.jsonl",
        files={"t.jsonl": '{"text": "fine"}\n{"text": 2.5}\n'},
    ),
    Mistake(
        name="data-not-json",
        command="data prepare t.jsonl",
        files={"t.jsonl": '{"text": "fine"}\n{"text": \n'},
    ),
    Mistake(name="data-a-json-list", command="data prepare t.json", files={"t.json": '[{"text": "fine"}]\n'}),
    Mistake(
        name="data-csv-with-a-field-too-many",
        command="data prepare t.csv",
        files={"t.csv": "id,text\n1,fine\n2,a comma, unquoted\n"},
    ),
    Mistake(name="data-csv-with-an-open-quote", command="data prepare t.csv", files={"t.csv": 'text\n"fine\nstill\n'}),
    Mistake(name="data-damaged-parquet", command="data prepare t.parquet", files={"t.parquet": b"PAR1 and no more"}),
    Mistake(name="data-hub-out-of-reach", command="data prepare hub:nobody/nothing"),
    Mistake(name="data-hub-name", command="data prepare hub:nobody/nothing,splt=train"),
    Mistake(
        name="data-stdin-twice", command="train --config small.yaml --set data.train=- --set data.valid=-", stdin="a\n"
    ),
    Mistake(name="data-stdin-empty", command="data prepare -", stdin=""),
    Mistake(name="data-no-label-file", command="data prepare train.txt --set data.labels=true"),
    Mistake(
        name="data-labels-not-parallel",
        command="data prepare a.txt --set data.labels=true",
        files={"a.txt": "one\ntwo\nthree\n", "a.labels": "x\ny\n"},
    ),
    Mistake(
        name="data-label-that-training-has-not",
        command="train --config mine.yaml",
        files=config("data: {train: a.txt, valid: b.txt, labels: true}\n")
        | {"a.txt": "one\ntwo\n", "a.labels": "good\nbad\n", "b.txt": "one\ntwo\n", "b.labels": "good\nbaad\n"},
    ),
    Mistake(
        name="data-sentence-without-label",
        command="data prepare a.txt --set data.labels=true",
        files={"a.txt": "one\ntwo\n", "a.labels": "x\n \n"},
    ),
    Mistake(
        name="data-labels-of-a-table",
        command="data prepare t.csv --set data.labels=true",
        files={"t.csv": "text,y\nfine,1\n"},
    ),
    Mistake(name="data-prepare-nothing", command="data prepare"),
    Mistake(name="data-fetch-unknown", command="data fetch plt"),
    Mistake(
        name="data-check-failed",
        command="data check odd.txt valid.txt",
        files={
            "odd.txt": "the cat saw\r\ncaf\u00e9 ".encode("latin1")
            + "\n\nnul \0\na \r b\none \u2028 two\nthe cat saw\n".encode()
        },
    ),
    Mistake(name="data-check-empty", command="data check e.txt", files={"e.txt": ""}),
    Mistake(name="data-check-alike", command="data check same.txt", files={"same.txt": "the same line\n" * 200}),
]

MODEL = [
    Mistake(name="model-none-yet", command="sample -n 1"),
    Mistake(name="model-no-such-folder", command="sample -n 1 --model runs/nope"),
    Mistake(name="model-no-hub-name", command="sample -n 1 --model hub:my-model"),
    Mistake(name="model-on-the-hub-offline", command="sample -n 1 --model my-name/my-model@v2"),
    Mistake(name="export-nowhere", command="export"),
    Mistake(name="export-no-model", command="export --onnx out"),
    Mistake(name="export-over-other-files", command="export --onnx . --model runs/vae", model=as_they_are),
    Mistake(name="push-no-hub-name", command="push my-model"),
    Mistake(name="push-two-revisions", command="push my-name/my-model@v1 --revision v2"),
    Mistake(name="push-no-model", command="push my-name/my-model"),
    Mistake(name="push-damaged", command="push --model runs/vae my-name/my-model", model=_damage("config.json")),
    Mistake(name="push-no-card", command="push --card page.md my-name/my-model", model=as_they_are),
    Mistake(name="push-offline", command="push my-name/my-model", model=as_they_are),
    Mistake(name="model-not-a-model", command="sample -n 1 --model ."),
    Mistake(name="model-run-without-one", command="sample -n 1 --model runs/vae", model=_no_model),
    Mistake(name="model-partial", command="sample -n 1 --model runs/vae", model=_remove("model.safetensors")),
    Mistake(name="model-without-manifest", command="sample -n 1 --model runs/vae", model=_remove("MANIFEST.json")),
    Mistake(name="model-damaged-weights", command="sample -n 1 --model runs/vae", model=_damage("model.safetensors")),
    Mistake(name="model-damaged-config", command="eval --model runs/vae", model=_damage("config.json")),
    Mistake(name="validate-no-such-folder", command="validate runs/nope"),
    Mistake(name="validate-damaged", command="validate runs/vae", model=_damage("config.json")),
    Mistake(name="model-newer", command="sample -n 1 --model runs/vae", model=_newer),
    Mistake(name="model-language-model-has-no-code", command="interpolate a b --model runs/lm", model=as_they_are),
    Mistake(name="model-autoencoder-has-no-prior", command="sample --from prior --model runs/ae", model=as_they_are),
    Mistake(name="run-out-exists", command="train --config small.yaml --out runs/vae", model=as_they_are),
    Mistake(name="run-resume-nothing", command="train --resume runs/nope"),
    Mistake(name="run-resume-and-out", command="train --resume runs/nope --out runs/other"),
    Mistake(name="run-resume-other-settings", command="train --resume runs/vae --set train.seed=7", model=as_they_are),
]

VAE = "--model runs/vae"
TEXT = [
    Mistake(name="text-empty", command=f"reconstruct '' {VAE}", model=as_they_are),
    Mistake(name="text-only-unknown-words", command=f"interpolate 'quux zork' 'the cat' {VAE}", model=as_they_are),
    Mistake(
        name="text-longer-than-any-in-training",
        command=f"reconstruct '{'the cat saw ' * 40}' --max-length 9 {VAE}",
        model=as_they_are,
    ),
    Mistake(name="text-begins-with-a-dash", command=f"reconstruct '-the cat' {VAE}", model=as_they_are),
    Mistake(name="text-after-two-dashes", command=f"reconstruct {VAE} -- '-the cat'", model=as_they_are),
    Mistake(name="text-with-a-line-break", command=f"reconstruct 'the cat\nsaw a cake' {VAE}", model=as_they_are),
    Mistake(name="sample-options-contradict", command=f"sample --greedy --beam 3 {VAE}", model=as_they_are),
    Mistake(name="sample-temperature-zero", command=f"sample --temperature 0 {VAE}", model=as_they_are),
    Mistake(name="sample-top-p", command=f"sample --top-p 1.5 {VAE}", model=as_they_are),
    Mistake(name="sample-top-k", command=f"sample --top-k 0 {VAE}", model=as_they_are),
]

CODE = '{"text": "the cat", "mean": [0.1, 0.2, 0.3]}\n'
VERBS = [
    Mistake(name="verb-no-sentences", command="score"),
    Mistake(name="verb-sentences-twice", command="encode 'the cat' --input test.txt"),
    Mistake(name="verb-column-of-no-file", command="encode 'the cat' --text-column text"),
    Mistake(name="verb-out-of-another-kind", command="encode 'the cat' --out z.pkl"),
    Mistake(name="verb-out-is-a-folder", command="encode 'the cat' --out a.npz", files={"a.npz/x": ""}),
    Mistake(name="verb-out-is-the-input", command="encode --input a.jsonl --out ./a.jsonl", files={"a.jsonl": CODE}),
    Mistake(name="verb-codes-of-another-kind", command="decode z.csv"),
    Mistake(name="verb-codes-missing", command=f"decode z.npz {VAE}", model=as_they_are),
    Mistake(
        name="verb-codes-damaged", command=f"decode z.npz {VAE}", files={"z.npz": b"PK\3\4 no more"}, model=as_they_are
    ),
    Mistake(
        name="verb-codes-without-mean", command=f"decode - {VAE}", stdin=CODE + '{"z": [0.1]}\n', model=as_they_are
    ),
    Mistake(
        name="verb-codes-of-another-model", command=f"decode - {VAE}", stdin='{"mean": [0.1]}\n', model=as_they_are
    ),
    Mistake(
        name="verb-codes-not-finite", command=f"decode - {VAE}", stdin='{"mean": [1, 1e999, 2]}\n', model=as_they_are
    ),
    Mistake(name="verb-input-missing", command=f"encode --input tst.txt --out z.npz {VAE}", model=as_they_are),
    Mistake(name="verb-input-empty", command=f"score --input e.txt {VAE}", files={"e.txt": ""}, model=as_they_are),
    Mistake(
        name="verb-input-no-such-column",
        command=f"score --input a.csv {VAE}",
        files={"a.csv": "review,stars\nfine,5\n"},
        model=as_they_are,
    ),
    Mistake(
        name="verb-input-without-columns", command=f"eval --input test.txt --text-column t {VAE}", model=as_they_are
    ),
    Mistake(name="verb-column-without-input", command="diagnose --text-column t"),
    Mistake(
        name="verb-input-too-long",
        command=f"eval --input a.txt {VAE}",
        files={"a.txt": "the cat\n" + "cake " * 100_001},
        model=as_they_are,
    ),
    Mistake(
        name="verb-input-not-utf-8",
        command=f"encode --input l.txt --out z.parquet {VAE}",
        files={"l.txt": b"the cat\na caf\xe9\n"},
        model=as_they_are,
    ),
    Mistake(name="verb-stdin-not-utf-8", command=f"score - {VAE}", stdin=b"\xff\xfet\0h\0e\0\n\0", model=as_they_are),
    Mistake(name="verb-stdin-empty", command=f"score - {VAE}", stdin="", model=as_they_are),
    Mistake(name="verb-only-unknown-words", command=f"score 'quux zork' {VAE}", model=as_they_are),
    Mistake(
        name="verb-only-unknown-words-in-a-stream",
        command=f"score - {VAE}",
        stdin="quux zork\nthe cat\n\n",
        model=as_they_are,
    ),
    Mistake(name="verb-begins-with-a-dash", command=f"score '-the cat' {VAE}", model=as_they_are),
    Mistake(name="verb-score-of-an-autoencoder", command="score 'the cat' --model runs/ae", model=as_they_are),
    Mistake(name="verb-likelihood-of-an-autoencoder", command="score a --by elbo --model runs/ae", model=as_they_are),
    Mistake(name="verb-score-of-a-language-model", command="score 'the cat' --model runs/lm", model=as_they_are),
    Mistake(name="verb-codes-of-a-language-model", command="encode 'the cat' --model runs/lm", model=as_they_are),
]

BESIDE = {
    "l.txt": "the cat saw some tea\nshe ate a cake\n",
    "l.labels": "dull\nfine\n",
    "l.csv": "text\nthe cat\nshe\n",
}
LATENT = [
    Mistake(name="latent-language-model", command="neighbors 'the cat' --model runs/lm", model=as_they_are),
    Mistake(
        name="latent-one-line",
        command=f"traverse 'the cat' --input a.txt {VAE}",
        files={"a.txt": "she ate\n"},
        model=as_they_are,
    ),
    Mistake(name="latent-no-such-dimension", command=f"traverse 'the cat' --dim 3 {VAE}", model=as_they_are),
    Mistake(
        name="latent-shift-without-labels",
        command=f"shift 'the cat' --toward fine --input a.txt {VAE}",
        files={"a.txt": "she ate\n", "a.mood.labels": "fine\n"},
        model=as_they_are,
    ),
    Mistake(
        name="latent-shift-table-without-labels",
        command=f"shift 'the cat' --toward fine --input l.csv {VAE}",
        files=BESIDE,
        model=as_they_are,
    ),
    Mistake(
        name="latent-shift-no-such-label",
        command=f"shift 'the cat' --toward fien --input l.txt {VAE}",
        files=BESIDE,
        model=as_they_are,
    ),
    Mistake(name="latent-shift-toward-nothing", command="shift 'the cat'"),
    Mistake(name="impute-no-gap", command=f"impute 'the cat __' {VAE}", model=as_they_are),
    Mistake(name="impute-gap-in-a-word", command=f"impute 'the c___ saw' {VAE}", model=as_they_are),
    Mistake(name="impute-too-many-lengths", command=f"impute '___* cat ___* tea ___* a ___*' {VAE}", model=as_they_are),
    Mistake(name="methods-no-such-name", command="methods show cyclic"),
]

PLOTS = [
    Mistake(name="plot-no-run", command="plot runs/vea"),
    Mistake(name="plot-not-evaluated", command="plot runs/vae --kind kl", model=as_they_are),
    Mistake(name="plot-map-of-two-models", command="plot runs/vae runs/ae --kind map", model=as_they_are),
    Mistake(name="plot-map-without-a-code", command="plot runs/lm --kind map", model=as_they_are),
    Mistake(name="report-no-run", command="report runs"),
    Mistake(name="report-not-evaluated", command="report runs/vae", model=as_they_are),
    Mistake(name="plot-map-by-no-such-labels", command="plot runs/vae --kind map --colour topic", model=as_they_are),
]

USAGE = [
    Mistake(name="usage-unknown-verb", command="smaple -n 10"),
    Mistake(name="usage-model-behind-the-verb", command="eval runs/vae", model=as_they_are),
    Mistake(name="usage-model-by-an-option", command="report --model runs/vae", model=as_they_are),
    Mistake(name="latent-neighbors-no-sentence", command="neighbors --input who.txt"),
    Mistake(name="usage-unknown-verb-far-off", command="frobnicate"),
    Mistake(name="usage-unknown-option", command="train --confg small.yaml"),
    Mistake(name="usage-unknown-option-short", command="sample -z"),
    Mistake(name="usage-unknown-option-before-the-verb", command="--json sample"),
    Mistake(name="usage-missing-argument", command="interpolate 'the cat'"),
    Mistake(name="usage-missing-value", command="sample -n"),
    Mistake(name="usage-not-a-number", command="sample -n ten"),
    Mistake(name="usage-below-the-least", command="sample -n -3"),
    Mistake(name="usage-not-a-choice", command="sample --from priar"),
    Mistake(name="usage-one-argument-too-many", command="interpolate a b c"),
]

MISTAKES = [*CONFIG, *DATA, *MODEL, *TEXT, *VERBS, *LATENT, *PLOTS, *USAGE]
