"""`dartsformer-report` writes a self-contained page that says what the checkpoints say, escaped."""

import json
import re

import pytest
import torch
from helpers.fairseq_commands import (
    DERIVED,
    LOGGED,
    SAMPLING,
    TEXT_DARTS,
    TEXT_DERIVED,
    TEXT_SEARCH,
    raw_checkpoint,
    train,
)
from helpers.report_pages import page_of

from fairseq_dartsformer.plots.style import in_words
from fairseq_dartsformer.report.run import read_search


def test_page_is_self_contained(logged_search, tmp_path):
    page, html = page_of(tmp_path, logged_search / "checkpoints")
    assert len(page.ids) == len(set(page.ids))
    assert page.addresses and all(a.startswith(("#", "data:")) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a[0] == "#"} <= set(page.ids)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "@import" not in html and page.tags.count("svg") == 4
    assert 'name="viewport"' in html and "@media print" in html and "prefers-color-scheme" in html


def test_page_says_what_the_checkpoints_do(logged_search, tmp_path):
    folder = logged_search / "checkpoints"
    page, _ = page_of(tmp_path, folder)
    history = read_search(folder).history
    text = " ".join(page.cells)
    for node in history.nodes:
        assert history.name(node) in text and in_words(node.chosen[-1]) in text
    assert page.facts["updates"] == "8of 8" and page.facts["time left"] == "none"
    assert page.facts["cost"].endswith("worker-hours1 CPU worker")
    last = raw_checkpoint(logged_search)
    assert f"{last['extra_state']['val_loss']:.3f}" in page.facts["validation"]
    assert json.dumps(read_search(folder).genotype.encoder[0]) in text
    for updates in (2, 4, 6, 8):
        assert page.cells.count(str(updates)) >= 2  # in the tables of choices and of losses
    for option in ("--arch-lr", "--encoder-operations", "dartsformer-derive", "dartsformer-report"):
        assert option in text


def test_what_files_say_is_escaped(logged_search, tmp_path):
    nasty = '<script>alert("1")</script>&\'<b>'
    folder = tmp_path / "a<script>&b"
    folder.mkdir()
    state = raw_checkpoint(logged_search)
    state["cfg"]["common"]["user_dir"] = nasty
    state["cfg"]["task"]["data"] = nasty
    state["cfg"]["task"]["search_strategy"] = nasty
    torch.save(state, folder / "checkpoint_last.pt")
    (folder / "checkpoint<i>.pt").write_text("none")
    retrained = tmp_path / "retrained"
    retrained.mkdir()
    state["cfg"]["model"]["_name"] = state["cfg"]["model"]["genotype"] = nasty
    torch.save(state, retrained / "checkpoint_last.pt")
    (retrained / "generate-test.txt").write_text(f"Generate test with beam=5: BLEU = {nasty}\n")
    log = tmp_path / "log"
    log.write_text(
        f"| INFO | u | rank 0: capabilities = 8 ; total memory = 9 GB ; name = {nasty}\n"
        "| INFO | train_inner | epoch 001: 6 / 9 loss=9, gb_free=3, num_updates=6\n"
    )
    page, html = page_of(tmp_path, folder, "--retrained", retrained, "--log", log)
    assert not {"script", "b", "i"} & set(page.tags) and "<script" not in html
    text = "".join(page.cells)
    assert text.count(nasty) >= 5 and "a<script>&b" in text


def test_retraining(data, logged_search, tmp_path):
    """Retrainings are listed with genotype, cost and score."""
    folder = logged_search / "checkpoints"
    genotype = tmp_path / "g.json"
    genotype.write_text(read_search(folder).genotype.to_json())
    for name, given in (("other", "paper_fig4_approx"), ("ours", genotype)):
        options = [*DERIVED, "--genotype", str(given), "--max-update", "2"]
        run = train(options, data, tmp_path / name)
    folders = [tmp_path / name / "checkpoints" for name in ("ours", "other")]
    line = "Generate test with beam=5: BLEU4 = 8.17, 37.2/12.4/4.9/2.0 (BP=1.000)"
    (folders[0] / "generate-test.txt").write_text(f"H-1\t-0.1\ta\n{line}\n")
    page, _ = page_of(tmp_path, folder, "--retrained", *folders)
    cells = [" ".join(cell.split()) for cell in page.cells]
    ours, other = (cells.index(str(path)) for path in folders)
    assert cells[ours + 1 : ours + 3] == ["dartsformer", "this search's"]
    assert cells[other + 1 : other + 3] == ["dartsformer", "another"]
    (parameters,) = re.findall(r"num. shared model params: (\S+)", run.stdout)
    assert cells[ours + 3] == parameters
    assert cells[ours + 4] == "2"
    assert cells[ours + 8] == "BLEU4 = 8.17, 37.2/12.4/4.9/2.0 (BP=1.000)"
    assert cells[other + 8] == "none"
    assert sum("fairseq-train" in cell for cell in cells) == 3


def test_sampling(data, tmp_path):
    """Without alpha, the page has everything else."""
    train(SAMPLING, data, tmp_path, *LOGGED)
    page, _ = page_of(tmp_path, tmp_path / "checkpoints")
    text = " ".join(page.cells)
    assert page.tags.count("svg") == 1 and "uniform_sampling" in text
    assert "dartsformer-derive" not in text and page.facts["updates"] == "8of 8"


@pytest.mark.parametrize("kind", [TEXT_SEARCH, TEXT_DARTS], ids=["dartsformer_lm", "darts"])
def test_language_model(data, tmp_path, kind):
    """The page has the perplexity, and nothing of an encoder or a source."""
    run = train(kind, data, tmp_path, *LOGGED, "--log-format", "simple")
    train(TEXT_DERIVED, data, tmp_path / "derived", "--label-smoothing", "0", "--max-update", "2")
    folder, derived = tmp_path / "checkpoints", tmp_path / "derived" / "checkpoints"
    line = "| fairseq_cli.eval_lm | Loss (base 2): 6.64, Perplexity: 99.73"
    (derived / "eval-test.txt").write_text(f"{line}\n")
    log = ["--log", tmp_path / "stdout", "--retrained", derived]
    page, html = page_of(tmp_path, folder, *log)
    logged = re.findall(r"valid on .* ppl (\S+) ", run.stdout)[-1]
    assert page.facts["validation"].endswith(f"loss, perplexity {float(logged):.1f}")
    assert not re.search("encoder|source|target|BLEU|cross attention", html.replace("decoder", ""))
    assert page.tags.count("svg") == 4 and "text embedding" in html
    best = raw_checkpoint(tmp_path / "derived")["extra_state"]["best"]
    row = [" ".join(cell.split()) for cell in page.cells]
    row = row[row.index(str(derived)) :]
    assert row[1] == "dartsformer_lm" and row[7] == f"{best:.3f}, perplexity {2**best:,.1f}"
    assert row[8] == "Perplexity: 99.73"
    # With label smoothing, the loss alone does not say the perplexity.
    assert page_of(tmp_path, folder)[0].facts["validation"].endswith("loss")
