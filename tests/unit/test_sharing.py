"""Models on the Hub: pushed and loaded they are the same model, pinned, checked like a folder, and found offline."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hub_stand_in import READER, HubStandIn, Repository, standing_in
from training_toys import WORDS, sentences, settings

import seqvae
from seqvae.errors import SeqVAEError
from seqvae.io import card, hub, manifests, pretrained, storage
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE

TEXTS = [*sentences(9, seed=7), "", "nothing known here"]
FILES = {"README.md", "config.json", "model.safetensors", "tokenizer/tokenizer.json", "MANIFEST.json"}


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with standing_in(monkeypatch, tmp_path) as server:
        yield server


def toy_vae(seed=0, latent_dim=3) -> TextVAE:
    torch.manual_seed(seed)
    return TextVAE(SeqVAE(ModelConfig(**settings(model={"latent_dim": latent_dim})["model"]), 13), WORDS)


def same(one: TextVAE, other: TextVAE) -> bool:
    """Their encoders give the same codes; models of different seeds do not."""
    return np.array_equal(one.encode(TEXTS).mean, other.encode(TEXTS).mean)


def repository_of(folder: Path, **kind) -> Repository:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    repository = Repository(**kind)
    repository.commit(files)
    return repository


@pytest.fixture
def shared(server, tmp_path) -> Repository:
    """``ann/toy``, as if somebody had pushed it."""
    toy_vae().save_pretrained(tmp_path / "made")
    server.repositories["ann/toy"] = repository_of(tmp_path / "made")
    return server.repositories["ann/toy"]


def refused(action, code: str) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        action()
    assert caught.value.code == code, caught.value
    assert caught.value.exit_code == 4
    assert caught.value.hint
    return caught.value


def no_network(monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")


class TestRoundTrip:
    def test_what_was_pushed_and_loaded_answers_as_before_and_knows_its_commit(self, server):
        vae = toy_vae()
        pushed = vae.push_to_hub("ann/toy", private=True, commit_message="first")
        repository = server.repositories["ann/toy"]
        assert repository.private
        assert repository.messages == ["initial commit", "first"]
        assert pushed == f"ann/toy@{repository.branches['main']}"
        assert set(repository.files()) == FILES | {".gitattributes"}
        loaded = seqvae.load("ann/toy")
        assert same(loaded, vae)
        assert not same(loaded, toy_vae(seed=1))
        assert loaded.reconstruct(TEXTS) == vae.reconstruct(TEXTS)
        assert loaded.sample(5, seed=3) == vae.sample(5, seed=3)
        assert loaded.origin == pushed
        assert same(seqvae.load(pushed), vae)

    def test_weights_travel_as_large_files_and_the_rest_in_the_commit(self, server):
        toy_vae().push_to_hub("ann/toy")
        assert list(server.blobs.values()) == [server.repositories["ann/toy"].files()["model.safetensors"]]

    def test_a_folder_keeps_its_evaluations(self, server, tmp_path):
        toy_vae().save_pretrained("made")
        weights = manifests.recorded_sha256("made", "model.safetensors")
        pretrained.keep_evaluation(Path("made"), "test", {"elbo_nats": 4.5}, weights_sha256=weights)
        hub.push(Path("made"), "ann/toy")
        report, _ = pretrained.kept_evaluation("ann/toy", "test")
        assert report == {"elbo_nats": 4.5}

    def test_a_model_saved_by_hand_is_one_that_loads(self, tmp_path):
        toy_vae().save_pretrained(tmp_path / "mine")
        toy_vae(seed=1).save_pretrained(tmp_path / "mine")
        assert same(seqvae.load(tmp_path / "mine"), toy_vae(seed=1))
        assert seqvae.load(tmp_path / "mine").origin is None
        assert "## Training" not in (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")

    def test_a_push_over_another_model_leaves_nothing_of_it(self, server):
        server.repositories["ann/toy"] = Repository()
        old = {"tokenizer/tokenizer.model": b"x", "eval-test.safetensors": b"y", "eval.json": b"{}", "notes.md": b"z"}
        server.repositories["ann/toy"].commit(old)
        toy_vae().push_to_hub("ann/toy")
        assert set(server.repositories["ann/toy"].files()) == FILES | {"notes.md"}

    def test_a_branch_is_made_and_main_stays_as_it_was(self, server, shared):
        before = shared.files()
        pushed = toy_vae(seed=1).push_to_hub("ann/toy", revision="trial")
        toy_vae(seed=2).push_to_hub("ann/toy@trial")
        assert shared.files() == before
        assert same(seqvae.load(pushed), toy_vae(seed=1))
        assert same(seqvae.load("ann/toy", revision="trial"), toy_vae(seed=2))
        assert same(seqvae.load("hub:ann/toy@trial"), toy_vae(seed=2))
        assert same(seqvae.load("ann/toy"), toy_vae())


class TestCard:
    def test_its_head_is_what_the_hub_reads(self, server):
        toy_vae().push_to_hub("ann/toy")
        text = server.repositories["ann/toy"].files()["README.md"].decode()
        _, head, body = text.split("---\n", 2)
        assert yaml.safe_load(head) == {
            "library_name": "seqvae",
            "tags": ["seqvae", "text", "variational-autoencoder", "lstm"],
        }
        assert 'seqvae.load("ann/toy")' in body
        assert "path/to" not in body

    def test_its_python_runs(self, server):
        toy_vae().push_to_hub("ann/toy")
        text = server.repositories["ann/toy"].files()["README.md"].decode()
        exec(compile(text.split("```python")[1].split("```")[0], "README.md", "exec"), {})

    def test_a_card_of_before_there_was_a_head_gets_one_and_one_of_the_owner_stays(self):
        assert card.for_hub("# Mine\n", "ann/toy").startswith("---\nlibrary_name: seqvae\n")
        own = "---\nlicense: mit\n---\n# Mine\n"
        assert card.for_hub(own, "ann/toy") == own

    def test_a_page_of_the_owner_takes_its_place(self, server):
        toy_vae().save_pretrained("made")
        Path("report/figures").mkdir(parents=True)
        for name in ("report/figures/1.svg", "report/other.svg", "secret.svg"):
            Path(name).write_text("<svg/>", encoding="utf-8")
        shown = ["figures/1.svg", "../secret.svg", f"{Path.cwd()}/secret.svg", "https://x.org/2.svg", "not-there.svg"]
        text = "# All about it\n" + "".join(f"![a figure]({link})\n" for link in shown)
        Path("report/page.md").write_text(text, encoding="utf-8")
        hub.push(Path("made"), "ann/toy", page=Path("report/page.md"))
        files = server.repositories["ann/toy"].files()
        assert files["README.md"].decode().endswith(text)
        assert set(files) == FILES | {".gitattributes", "figures/1.svg"}
        server.asked.clear()
        assert same(seqvae.load("ann/toy"), toy_vae())
        assert not any(path.endswith(".svg") for _, path in server.asked)

    @pytest.mark.parametrize("gone", [False, True])
    def test_a_card_that_its_owner_edited_is_pushed_and_one_of_another_name_in_its_place(self, server, gone):
        toy_vae().save_pretrained("made")
        card = Path("made/README.md")
        card.write_text("---\nlicense: mit\n---\n# Mine\n", encoding="utf-8")
        page = card.rename("page.md") if gone else None
        hub.push(Path("made"), "ann/toy", page=page)
        assert server.repositories["ann/toy"].files()["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"
        assert same(seqvae.load("ann/toy"), toy_vae())

    def test_a_card_that_was_edited_on_the_hub_is_taken_as_it_is(self, shared):
        shared.commit(shared.files() | {"README.md": b"edited in a browser"})
        loaded = seqvae.load("ann/toy")
        assert same(loaded, toy_vae())
        manifests.verify(pretrained.model_folder(Path(loaded.origin)))


class TestPinned:
    def test_main_is_resolved_once_and_a_commit_stays_what_it_was(self, server, shared, caplog):
        caplog.set_level("INFO", logger="seqvae")
        first = seqvae.load("ann/toy").origin
        toy_vae(seed=1).push_to_hub("ann/toy")
        second = seqvae.load("ann/toy")
        assert same(second, toy_vae(seed=1))
        assert second.origin != first
        assert same(seqvae.load(first), toy_vae())
        commits = [origin.partition("@")[2] for origin in (first, second.origin, first)]
        assert caplog.messages == [f"model    ann/toy at commit {commit}" for commit in commits]

    def test_only_the_files_of_the_manifest_are_fetched_and_each_once(self, server, shared):
        shared.commit(shared.files() | {"evil.pkl": b"cos\nsystem\n", "model.bin": b"x", "tokenizer/more.json": b"{}"})
        seqvae.load("ann/toy")
        got = [path.partition("/resolve/")[2].partition("/")[2] for verb, path in server.asked if verb == "GET"]
        assert sorted(filter(None, got)) == sorted(FILES)
        server.asked.clear()
        seqvae.load("ann/toy")
        assert [verb for verb, path in server.asked if "/resolve/" in path] == ["HEAD"]
        server.asked.clear()
        seqvae.load(f"ann/toy@{shared.branches['main']}")
        assert server.asked == []

    def test_the_cached_folder_holds_files_and_no_links(self, shared):
        folder = pretrained.model_folder(Path("ann/toy"))
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == FILES
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        manifests.verify(folder)

    def test_a_cached_folder_that_was_damaged_is_made_anew(self, shared):
        folder = pretrained.model_folder(Path("ann/toy"))
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").write_bytes(b"damaged")
        assert same(seqvae.load("ann/toy"), toy_vae())


class TestOffline:
    @pytest.mark.parametrize("how", ["offline mode", "no network", "the Hub is down"])
    def test_what_was_fetched_before_is_found(self, how, server, shared, monkeypatch, caplog):
        origin = seqvae.load("ann/toy").origin
        self.cut_off(how, server, monkeypatch)
        caplog.set_level("INFO", logger="seqvae")
        loaded = seqvae.load("ann/toy")
        assert same(loaded, toy_vae())
        assert loaded.origin == origin
        assert caplog.messages[0] == "note     the Hub cannot be reached: this is what was fetched before"
        assert same(seqvae.load(origin), toy_vae())

    @pytest.mark.parametrize(
        ("how", "code", "said"),
        [
            ("offline mode", "E437", "HF_HUB_OFFLINE forbids"),
            ("no network", "E437", "refused"),
            ("the Hub is down", "E440", "503: the Hub is being repaired"),
        ],
    )
    def test_what_was_not_says_what_to_do(self, how, code, said, server, monkeypatch):
        self.cut_off(how, server, monkeypatch)
        assert said in refused(lambda: seqvae.load("ann/toy"), code).what
        assert refused(lambda: toy_vae().push_to_hub("ann/toy"), code)

    def test_what_another_program_put_into_the_cache_of_the_hub_is_found(self, server, shared, monkeypatch):
        from huggingface_hub import constants, snapshot_download

        snapshot_download("ann/toy")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert same(seqvae.load("ann/toy"), toy_vae())

    def cut_off(self, how: str, server: HubStandIn, monkeypatch) -> None:
        from huggingface_hub import constants

        if how == "offline mode":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        elif how == "no network":
            no_network(monkeypatch)
        else:
            server.broken = 503


class TestRefused:
    @pytest.mark.parametrize("name", sorted(FILES - {"README.md", "MANIFEST.json"}))
    def test_damaged_bytes_are_never_a_model_and_are_fetched_anew_once_mended(self, name, shared):
        whole = shared.files()
        changed = whole[name][:-3] + bytes(byte ^ 1 for byte in whole[name][-3:])
        shared.commit(whole | {name: changed})
        error = refused(lambda: seqvae.load("ann/toy"), "E401")
        assert name in error.what
        assert "ann/toy@" in error.where
        commit = shared.branches["main"]
        shared.commits[commit] = whole  # a proxy had done it, say
        assert same(seqvae.load("ann/toy"), toy_vae())

    def test_a_pickle_in_the_manifest_is_not_even_fetched(self, server, shared):
        manifest = json.loads(shared.files()["MANIFEST.json"])
        manifest["files"]["weights.pkl"] = {"size": 2, "sha256": "0" * 64}
        shared.commit(shared.files() | {"MANIFEST.json": json.dumps(manifest).encode(), "weights.pkl": b"N."})
        assert "weights.pkl" in refused(lambda: seqvae.load("ann/toy"), "E439").what
        assert not any("weights.pkl" in path for _, path in server.asked)

    def test_a_pickle_under_the_name_of_the_weights_is_no_safetensors(self, server, tmp_path):
        toy_vae().save_pretrained("made")
        with storage.atomic_folder("made", amend=True) as folder:
            torch.save(toy_vae().model.state_dict(), folder / "model.safetensors")
        server.repositories["ann/toy"] = repository_of(Path("made"))
        refused(lambda: seqvae.load("ann/toy"), "E401")

    @pytest.mark.parametrize("name", ["../escaped.json", "/etc/passwd.json", "tokenizer/../../escaped.json"])
    def test_a_manifest_that_leads_out_of_the_folder_is_refused(self, name, server, shared):
        manifest = json.loads(shared.files()["MANIFEST.json"])
        manifest["files"][name] = manifest["files"]["config.json"]
        shared.commit(shared.files() | {"MANIFEST.json": json.dumps(manifest).encode()})
        refused(lambda: seqvae.load("ann/toy"), "E401")
        assert not any("escaped" in path or "passwd" in path for _, path in server.asked)

    def test_nothing_of_a_refused_model_stays_in_the_cache(self, shared, monkeypatch, tmp_path):
        monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))
        shared.commit(shared.files() | {"config.json": b"{}"})
        refused(lambda: seqvae.load("ann/toy"), "E401")
        assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []

    def test_a_repository_of_another_library_says_so(self, server):
        server.repositories["ann/other"] = Repository()
        server.repositories["ann/other"].commit({"pytorch_model.bin": b"x", "config.json": b"{}"})
        refused(lambda: seqvae.load("ann/other"), "E438")

    def test_a_file_of_the_manifest_that_is_not_there_says_so(self, shared):
        shared.commit({name: data for name, data in shared.files().items() if name != "config.json"})
        refused(lambda: seqvae.load("ann/toy"), "E438")

    def test_a_damaged_folder_is_not_pushed(self, server):
        toy_vae().save_pretrained("made")
        (Path("made") / "config.json").write_text("{}", encoding="utf-8")
        refused(lambda: hub.push(Path("made"), "ann/toy"), "E401")
        assert server.repositories == {}


class TestWho:
    def test_a_model_that_is_not_there(self, server):
        error = refused(lambda: seqvae.load("ann/nothing"), "E433")
        assert "ann/nothing" in error.what
        assert "hf auth login" in error.hint

    def test_a_private_model_is_shown_to_its_owner_alone(self, server, shared, monkeypatch):
        shared.private = True
        assert same(seqvae.load("ann/toy"), toy_vae())
        monkeypatch.setenv("HF_TOKEN", READER)
        refused(lambda: seqvae.load("ann/toy"), "E433")
        monkeypatch.delenv("HF_TOKEN")
        assert "private" in refused(lambda: seqvae.load("ann/toy"), "E433").what

    def test_a_gated_model_says_where_to_ask(self, shared):
        shared.gated = True
        assert "https://huggingface.co/ann/toy" in refused(lambda: seqvae.load("ann/toy"), "E435").hint

    def test_a_revision_that_is_not_there(self, shared):
        assert "v9" in refused(lambda: seqvae.load("ann/toy@v9"), "E434").what
        assert refused(lambda: seqvae.load("ann/toy", revision="0" * 40), "E434")

    @pytest.mark.parametrize("token", ["hf_no_longer_valid", READER, None])
    def test_who_may_not_write_is_told_how_to_log_in(self, token, server, shared, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        for name in ("ann/toy", "ann/new"):
            assert "write" in refused(lambda name=name: toy_vae().push_to_hub(name), "E436").hint
        assert set(server.repositories) == {"ann/toy"}

    def test_a_token_that_is_no_longer_valid_is_named_when_reading_too(self, shared, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_no_longer_valid")
        assert "Invalid credentials" in refused(lambda: seqvae.load("ann/toy"), "E436").what


class TestNames:
    def test_a_folder_of_that_name_wins(self, server, shared):
        toy_vae(seed=1).save_pretrained("ann/toy")
        server.asked.clear()
        assert same(seqvae.load("ann/toy"), toy_vae(seed=1))
        assert server.asked == []
        assert same(seqvae.load("hub:ann/toy"), toy_vae())

    @pytest.mark.parametrize("name", ["runs/nope", "here/nope", "/ann/toy", "ann", "ann/toy/model", "../ann", "~/toy"])
    def test_a_path_is_not_asked_for_on_the_hub(self, name, server):
        Path("here").mkdir()
        refused(lambda: seqvae.load(name), "E404")
        assert server.asked == []

    @pytest.mark.parametrize("name", ["hub:toy", "hub:ann/", "hub:a/b/c", "hub:ann/toy@", "hub:ann/a--b", "hub:a/.."])
    def test_a_name_that_none_can_have_is_refused(self, name, server):
        refused(lambda: seqvae.load(name), "E432")

    def test_a_revision_of_a_folder_or_two_of_a_model_are_refused(self, server, shared):
        shutil.copytree("made", "other")
        assert "revisions" in refused(lambda: seqvae.load("other", revision="main"), "E432").what
        assert "two revisions" in refused(lambda: seqvae.load("ann/toy@main", revision="v1"), "E432").what

    def test_the_kinds_of_files_are_those_that_models_have(self):
        golden = Path(__file__).parents[1] / "golden"
        kinds = {path.suffix for path in golden.glob("*/model/**/*") if path.is_file()}
        assert kinds == hub.KINDS
        assert not hub.KINDS & {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npy", ".py"}
