"""examples/wmt: every step of the paper's pipeline, on small archives of the real forms."""

import json
import re
from pathlib import Path

import pytest
from helpers.example_scripts import WMT, check_refused, done, script
from helpers.wmt_archives import make_archives

from fairseq_dartsformer.search_space.genotype import Genotype

STEPS = sorted(path.name for path in WMT.glob("[1-8]-*.sh"))

SMALL = (
    "common.fp16=false common.cpu=true common.tensorboard_logdir=null dataset.num_workers=0 "
    "dataset.disable_validation=true dataset.max_tokens=500 optimization.max_update=2 "
    "optimization.update_freq=[1] checkpoint.save_interval_updates=1 "
    "model.embed_dim=8 model.hidden_dim=24 model.ffn_dim=16 model.attention_heads=2 "
    "model.encoder_layers=2 model.decoder_layers=2"
).split()


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """A folder with all archives and their table."""
    folder = tmp_path_factory.mktemp("archives")
    make_archives(folder)
    return folder


@pytest.mark.long
def test_every_step(archives, tmp_path):
    work = ["--work", str(tmp_path)]
    source = [*work, "--data", "wmt14.en-de", "--table", str(archives / "archives.tsv")]
    done(WMT / "1-download.sh", *source)
    options = "--merges 60 --held-out 12 --workers 2".split()
    refused = script(WMT / "2-prepare.sh", *source, "--held-out", "90000")
    assert refused.returncode and "--held-out is 90000, of " in refused.stderr
    done(WMT / "2-prepare.sh", *source, *options)
    prepared = tmp_path / "data" / "wmt14.en-de"
    assert len((prepared / "bpe" / "valid.en").read_text().splitlines()) == 12
    assert done(WMT / "2-prepare.sh", *source, *options) == ""
    check_refused(str(prepared), WMT / "2-prepare.sh", *source, *options, "--merges", "61")

    search = [*work, "--gpus", "1"]
    done(WMT / "3-search.sh", *search, "--", *SMALL)
    assert done(WMT / "3-search.sh", *search, "--", *SMALL) == ""
    searched = str(tmp_path / "search" / "max_s2")
    check_refused(searched, WMT / "3-search.sh", *search, "--data", "wmt18.en-de", "--", *SMALL)
    assert "--every is 10000: no checkpoint" in script(WMT / "4-derive.sh", *work).stderr
    folder = tmp_path / "genotypes" / "max_s2"
    report = done(WMT / "4-derive.sh", *work, "--every", "1")
    assert report == (folder / "report.txt").read_text()
    genotypes = sorted(folder.glob("*.json"))
    assert [path.stem.rpartition("_")[2] for path in genotypes] == ["1", "2"]
    assert all(f"_{update}.pt: {update} updates" in report for update in "12")

    # Retrains the first genotype; the second has been retrained before, with a better BLEU.
    genotypes[0].write_text(Genotype.load("paper_fig4_approx").to_json())
    other = json.loads(genotypes[0].read_text())
    other["encoder"][0][0] = "identity"
    genotypes[1].write_text(json.dumps(other))
    trained = tmp_path / "select" / "max_s2" / genotypes[1].stem
    trained.mkdir(parents=True)
    for name in ("done", "average.pt"):
        (trained / name).touch()
    (trained / "tune.tsv").write_text("0.0\t98.5\n0.5\t99.5\n")
    quick = ["--average", "2", "--penalties", "0.0 0.5"]
    selected = script(WMT / "5-select.sh", *work, "--gpus", "1", *quick, "--", *SMALL)
    assert f"selected: {genotypes[1].stem}" in selected.stdout and selected.stderr == ""
    tuned = selected.stdout[selected.stdout.index("length penalty 0.0: BLEU ") :].splitlines()
    assert tuned[1].startswith("length penalty 0.5: BLEU ") and tuned[2].startswith("best: ")
    scores = (tmp_path / "select" / "max_s2" / "scores.tsv").read_text().splitlines()
    assert scores[0] == f"99.5\t{genotypes[1].stem}" and len(scores) == 2
    assert (tmp_path / "genotypes" / "max_s2.json").read_text() == genotypes[1].read_text()

    trained = tmp_path / "select" / "max_s2" / genotypes[0].stem
    data, model = ["--data", "wmt14.en-de"], ["--model", str(trained)]
    again = [*work, *data, *model, "--gpus", "1", "--average", "2"]
    assert done(WMT / "6-train.sh", *again, "--genotype", str(genotypes[0]), "--", *SMALL) == ""
    check_refused(
        str(trained), WMT / "6-train.sh", *again, "--genotype", str(genotypes[1]), "--", *SMALL
    )
    check_refused(
        f"{trained}/tune.tsv", WMT / "7-tune.sh", *work, *data, *model, "--", "--beam", "2"
    )
    bleu = done(WMT / "8-test.sh", *work, *data, *model)
    assert "tokenised: Generate test with beam=5: BLEU4 = " in bleu
    assert re.search(r"nrefs:1\|.*tok:13a\|.*version:", bleu)
    assert bleu.endswith(done(WMT / "8-test.sh", *work, *data, *model))
    check_refused(f"{trained}/bleu", WMT / "8-test.sh", *work, *data, *model, "--", "--beam", "2")
    (trained / "tune.tsv").write_text("0.3\t99.0\n")
    check_refused(f"{trained}/bleu", WMT / "8-test.sh", *work, *data, *model)
    (trained / "average.pt").write_bytes(b"another")
    check_refused(f"{trained}/tune.tsv", WMT / "7-tune.sh", *work, *data, *model)


@pytest.mark.parametrize("name", STEPS)
def test_help_names_every_option(name):
    known = re.search(r'^options "([a-z -]+)"', (WMT / name).read_text(), re.MULTILINE)[1].split()
    text = done(WMT / name, "--help")
    assert all(f"--{option} " in text for option in known if option != "--")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("1-download.sh --data wmt13.en-de", "data set wmt13.en-de: expected one of"),
        ("2-prepare.sh --work {0}", "is missing: run 1-download.sh"),
        ("2-prepare.sh --work {0} --merges 0", "--merges is 0, it must be a positive integer"),
        ("3-search.sh --work {0}", "run 2-prepare.sh"),
        ("3-search.sh --gpus 3", "--gpus is 3, it must be 1, 2, 4 or 8"),
        ("3-search.sh --search max_s3", "there is no configs/search/max_s3.yaml"),
        ("4-derive.sh --work {0}", "run 3-search.sh"),
        ("4-derive.sh --work {0} --search sampling_max_s2", "use dartsformer-evolve instead"),
        ("5-select.sh --work {0}", "run 4-derive.sh"),
        ("6-train.sh --config tiny", "there is no configs/train/tiny.yaml, but"),
        ("6-train.sh --work {0} --genotype none.json", "no genotype in none.json: run 5-select"),
        ("6-train.sh --config transformer --genotype g.json", "--config transformer takes none"),
        ("8-test.sh --work {0}", "run 6-train.sh"),
    ],
)
def test_bad_input_is_one_line(tmp_path, command, message):
    name, *arguments = command.format(tmp_path).split()
    result = script(WMT / name, *arguments)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
