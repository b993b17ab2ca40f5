"""What the commands refuse: one line says what is wrong, and nothing is written."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers.attempts import attempt, contents
from helpers.latency_tables import NETWORK, latency_table
from helpers.models import every_operation_once
from helpers.snapshots import saved, search_state

from fairseq_dartsformer.cli import evolve
from fairseq_dartsformer.evolution.population import Evolution
from fairseq_dartsformer.evolution.scoring import ScoreConfig
from fairseq_dartsformer.operations import ENCODER_OPERATIONS

# By command: arguments, and a pattern of the line. {data} is a binarised corpus, {other} one with
# another dictionary, {search} the checkpoint of a search.
CASES = {
    "derive": [
        ("a/1.pt b/1.pt -o .", "a/1.pt and b/1.pt would both be "),
        ("a/1.pt b/2.pt -o file", "is a file: several checkpoints need a folder"),
        ("a/1.pt b/2.pt -o new", "has another search space than"),
        ("a/1.pt file -o new", "checkpoint file is damaged"),
        ("a/1.pt -o no/g.json", "there is no folder no"),
        ("a/1.pt -o a/1.pt", "would overwrite"),
        ("a/1.pt -o /dev/null", "is not a file"),
        ("a/1.pt --exclude conv_4 -o x", "--exclude"),
        (f"a/1.pt --exclude {','.join(ENCODER_OPERATIONS)} -o x", "--exclude"),
        ("a/1.pt --top 0", "--top"),
    ],
    "average": [
        ("a/1.pt b/1.pt -o b/1.pt", "would overwrite a file that is read"),
        ("a/1.pt no.pt -o x", "checkpoint no.pt cannot be read"),
        ("a/1.pt b/2.pt -o x", r"encoder.alpha has shape \(1, .*expected"),
        ("a --last 5 -o x", "^--last 5: a has 1 checkpoints named checkpoint_EPOCH_"),
        ("a/1.pt --last 1 -o x", "expected a folder"),
        ("a b --last 1 -o x", "expected one folder, not 2 paths"),
        ("a --last 0 -o x", "--last"),
    ],
    "plot": [
        ("a -o a.txt", "^-o a.txt: expected a suffix of pdf, png, svg, tsv"),
        ("a -o a.tsv --kind choices", "^--kind is choices, but -o a.tsv is a table"),
        ("empty -o a.svg", "^empty: holds no checkpoint: expected checkpoint.*.pt files"),
        ("no_such -o a.svg", "^no_such: no such file, folder or built-in genotype"),
        ("paper_fig4_approx -o a.tsv", "^paper_fig4_approx: expected the folder of a search, some"),
        ("a file -o a.svg", "^file: expected the folder of a search, some of its check"),
        ("no.tsv -o a.svg", "^no.tsv: no such file"),
        ("table.tsv -o a.svg --kind genotype", "--kind genotype needs a genotype or checkpoints"),
        ("a/1.pt b/2.pt -o a.svg", "has another search space than"),
        ("h.jsonl -o a.svg", "^--latency-table is missing: --kind latency needs it"),
        ("h.jsonl -o a.svg --latency-table no", "^latency table no: there is no such file"),
        ("h.jsonl -o a.svg --latency-table l.json", "^h.jsonl: is not the history of a search"),
        ("a/1.pt -o a.svg --latency-table l.json", "^--latency-table goes with --kind latency"),
        ("sampling/checkpoint1.pt -o a.svg --kind alpha", "uniform_sampling, .* not learn alpha"),
    ],
    "latency": [
        ("--latency-table l.json", "^--genotype is missing: a prediction needs it; to measure"),
        ("--genotype paper_fig4_approx", "^--latency-table is missing: a prediction needs it"),
        ("--latency-table no --genotype paper_fig4_approx", "^latency table no: there is no such"),
        ("--latency-table file --genotype paper_fig4_approx", "^latency table file: not JSON"),
        ("--latency-table l.json --genotype no", "^genotype no: neither a file nor"),
        (
            "--latency-table l.json --genotype d.json",
            "is of family dartsformer, but he",
        ),
        ("--latency-table l.json --genotype g.json -o x", "^--output is x: it needs --arch"),
        ("--latency-table l.json --genotype g.json --fp16", "^--fp16: is no option of a predict"),
        ("--arch dartsformer_search", "^-o or --latency-table: give one of them with --arch"),
        ("--arch dartsformer_search --latency-table l.json", "^--check or --genotype: give one"),
        ("--arch dartsformer_search -o x --genotype y", "^genotype y: neither a file nor"),
        ("--arch dartsformer_search -o no/x", "^-o no/x: there is no folder no"),
        ("--arch dartsformer_search -o x --hidden-dim 25", "^--hidden-dim is 25"),
        ("--arch dartsformer_search -o x --amp", "^--amp: is for training"),
        ("--arch transformer -o x", "^--arch is transformer, it must be a supernet"),
        ("--arch dartsformer_search -o x --rounds 0", "--rounds: is '0', it must be a whole"),
    ],
    "report": [
        ("no -o x", "^no: is not a folder"),
        ("foreign -o x", "^foreign/checkpoint1.pt: is a transformer model's checkpoint"),
        ("a --log no -o x", "^--log no: cannot be read: No such file"),
        ("a --log file -o x", "^--log file: holds no statistics"),
        ("a --retrained empty -o x", "^empty: holds no checkpoint"),
        ("a --log file -o file", "^-o file: would overwrite"),
    ],
    "parameters": [("--vocabulary 4", "--vocabulary: is '4', it must be"), ("--genotype x", "x: ")],
    "memory": [
        ("--arch dartsformer_search --gpu big", "^--gpu is 'big': expected its memory in GiB"),
        ("--arch dartsformer_search --gpu nan", "^--gpu is 'nan': expected its memory in GiB"),
        ("--arch dartsformer_search --hidden-dim 25", "^--hidden-dim is 25"),
        ("--arch dartsformer_search --encoder-operations conv_4", "--encoder-operations"),
        (
            "--arch dartsformer_search --max-tokens 1000000000000",
            "--max-tokens: is '1.*, it must",
        ),
        ("--arch dartsformer_search --length 1000000000000", "--length: is '1.*, it must"),
        ("--arch dartsformer", "^--genotype is missing"),
        ("--arch dartsformer_search --figure a.svg", "^--arch or --figure: "),
        ("--arch dartsformer_search --hidden-dims 24", "^--hidden-dims goes with --figure"),
        ("--figure a.svg --gpu T4", "^--gpu is T4: it goes with --arch"),
        ("--figure a.txt", "^--figure a.txt: expected a suffix of pdf, png, svg"),
        ("--figure a.svg --hidden-dims 24 25 --encoder-layers 2", "^--attention-heads is 4, "),
    ],
    "evolve": [
        ("file {data} -o x", "file is damaged"),
        ("{search} no -o x", "^no/dict.aa.txt: No such file"),
        ("{search} {other} -o x", "another dictionary than the data's: 48 words in .* 50$"),
        ("{search} {data} -o x --valid-subset y", "^--valid-subset is 'y', .* no such binar"),
        ("{search} {data} -o x --valid-subset test1", r"test1\.aa-bb\.aa\.bin .*empty"),
        ("{search} {data} -o x --max-tokens 1", "^--max-tokens is 1, which every sentence"),
        ("{search} {data} -o x --max-parameters 9", "^--max-parameters is 9, it must be at"),
        ("{search} {data} -o x --max-parameters infM", "is 'infM', it must be a number from 1"),
        ("{search} {data} -o x --max-latency 9", "^--max-latency and --latency-table: give both"),
        ("{search} {data} -o x --max-latency 0", "--max-latency: is '0', it must be a positive"),
        (
            "{search} {data} -o x --max-latency 9 --latency-table w.json",
            "--hidden-dim 48, but",
        ),
        (
            "{search} {data} -o x --max-latency 5 --latency-table l.json",
            "^--max-latency is 5.0",
        ),
        ("{search} {data} -o x --population 0", "is '0', it must be a whole number from 1"),
        ("{search} {data} -o x --population 9", "^--population is 9, .* exceed"),
        ("{search} {data} -o x --mutation-probability nan", "'nan', .* above 0 and at most 1"),
        ("{search} {data} -o x --fp16", "^--fp16: there is no GPU"),
        ("{search} {data} -o x --history no/h", "^--history no/h: there is no folder no"),
        ("{search} {data} -o x --history notes", "notes: is not the hist"),
        ("{search} {data} -o x --history x", "^--history x: is also -o's"),
        ("{search} {data} -o x --seed 2 --history h", "begun with seed = 1, now it"),
    ],
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with files of every kind."""
    for name in ("a", "b", "empty", "foreign", "sampling"):
        (tmp_path / name).mkdir()
    saved(tmp_path / "a" / "1.pt")
    shutil.copy(tmp_path / "a" / "1.pt", tmp_path / "a" / "checkpoint1.pt")
    for number in (1, 2):
        saved(tmp_path / "b" / f"{number}.pt", layers=3 - number, seed=number - 1)
    saved(tmp_path / "foreign" / "checkpoint1.pt", _name="transformer")
    sampling = search_state()
    sampling["cfg"]["task"] = {"search_strategy": "uniform_sampling"}
    torch.save(sampling, tmp_path / "sampling" / "checkpoint1.pt")
    (tmp_path / "file").touch()
    (tmp_path / "h.jsonl").touch()
    (tmp_path / "l.json").write_text(latency_table().to_json())
    wide = latency_table(NETWORK | {"hidden_dim": 48})
    (tmp_path / "w.json").write_text(wide.to_json())
    (tmp_path / "d.json").write_text(every_operation_once(2, None).to_json())
    (tmp_path / "table.tsv").touch()
    (tmp_path / "notes").write_text("bread\nmilk\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "arguments", "pattern"),
    [(command, *case) for command, cases in CASES.items() for case in cases],
)
def test_refused(data, logged_search, folder, command, arguments, pattern):
    given = {"data": data, "search": logged_search / "checkpoints" / "checkpoint_last.pt"}
    if "{other}" in arguments:
        given["other"] = shutil.copytree(data, folder / "other")
        for dictionary in given["other"].glob("dict.*.txt"):
            dictionary.write_text(f"{dictionary.read_text()}more 1\nwords 1\n")
    words = arguments.format(**given).split()
    if "--history h" in arguments:
        args = evolve.get_parser().parse_args(words[:4])
        parts = (evolve._picked(kind, args) for kind in (ScoreConfig, Evolution))
        (folder / "h").write_text(json.dumps(evolve._settings(*parts, None)) + "\n")
    before = contents(folder, data, logged_search)
    line = attempt(command, *words).line
    assert re.search(pattern.replace("^", "^(?:argument )?"), line), line
    assert contents(folder, data, logged_search) == before
