"""`examples/language_model`: documents without leaks, models of equal size, every step."""

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.example_scripts import EXAMPLES, script

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.planner import count_parameters, training_config
from fairseq_dartsformer.search_space.genotype import BUILTIN, Genotype

sys.path.insert(0, str(EXAMPLES / "language_model"))
import compare
import documents
from compare import Model, derived, load, plan, sample, save, transformers
from matching import TOLERANCE
from sampling import COLUMNS, from_cells, to_cells

VOCABULARY = 4400
FOLDER = "language_model"


def test_messages_are_split_by_president_and_repetitions_are_left_out(tmp_path):
    presidents = ["washington", "tyler", "tyler", "hoover", "hayes", "kennedy", "obama"]
    rows = [(f"{i}-{name}", name, str(i != 2)) for i, name in enumerate(presidents)]
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("fileid", "president_id", "is_sotu"), *rows])
    (tmp_path / "speeches").mkdir()
    for name, *_ in rows:
        (tmp_path / "speeches" / f"{name}.txt").write_text(
            f"{name}\n\n \u00a0\nsecond\u2028 line\n"
        )
    splits = documents.messages(tmp_path)
    assert {name: [d[0] for d in found] for name, found in splits.items()} == {
        "train": ["0-washington", "6-obama"],
        "valid": ["1-tyler", "3-hoover"],
        "test": ["4-hayes", "5-kennedy"],
    }
    assert all(d[1:] in {("second line",), ("second", "line")} for d in splits["train"])


@pytest.mark.parametrize("blank", [True, False], ids=["paragraphs", "lines"])
@pytest.mark.parametrize("count", [3, 40, 100])
def test_the_last_documents_are_held_out_and_kept_from_train(tmp_path, blank, count):
    """No document is lost but copies; what is written is read as the same documents."""
    found = [(f"{i}", "more") if blank else (f"{i}",) for i in range(count)]
    copies = [found[-1], *found]
    gap = ["", ""] if blank else []
    text = tmp_path / "text"
    text.write_text("".join(f"{line}\n" for d in copies for line in (*d, *gap)))
    splits = documents.split(text)
    held = max(1, len(copies) // 20)
    assert splits["test"] == found[-held:] and splits["valid"] == found[-2 * held : -held]
    assert splits["train"] == found[: -2 * held]
    documents.save(splits, tmp_path / "out")
    assert documents.split(tmp_path / "out") == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("line\n", "train has no document, of 1 in all; blank lines separate documents"),
        ("a\nb\n", "train has no document, of 2 in all"),
        ("a\nb\nc\nd\n\n", "train has no document, of 1 in all"),
        ("line\n" * 9, "each document of train is also one of valid or test"),
    ],
)
def test_a_text_of_too_few_documents_is_refused(tmp_path, text, message):
    (tmp_path / "text").write_text(text)
    with pytest.raises(ValueError, match=f"text: {message}"):
        documents.split(tmp_path / "text")


def test_a_folder_without_one_of_the_files_is_refused(tmp_path):
    (tmp_path / "train.txt").write_text("a\n")
    with pytest.raises(ValueError, match=f"{tmp_path}: there is no valid.txt"):
        documents.split(tmp_path)


def parameters(model: Model) -> int:
    arch, *given = model.options[1:]
    if model.genotype is not None:
        given += ["--genotype", model.genotype.to_json()]
    return count_parameters(training_config(arch, given), VOCABULARY)


def test_models_are_equally_large(tmp_path):
    post_ln, pre_ln = transformers()
    random = sample(4, 1, VOCABULARY)
    assert [model.name for model in random] == [f"random-{i:03d}" for i in range(4)]
    assert sample(2, 1, VOCABULARY) == random[:2]
    assert plan([post_ln, random[0]], 2) == [(post_ln, 1), (random[0], 1), (post_ln, 2)]
    save(tmp_path / "models.json", [post_ln, *random])
    assert load(tmp_path / "models.json") == [post_ln, *random]
    target = parameters(post_ln)
    for model in (pre_ln, *random):
        assert parameters(model) == pytest.approx(target, rel=TOLERANCE)
        if model.genotype is not None:
            assert from_cells(to_cells(model.genotype)) == model.genotype
    with pytest.raises(InputError, match="family is dartsformer, expected dartsformer_lm"):
        derived("figure", BUILTIN["paper_fig4_approx"], VOCABULARY)


@pytest.mark.parametrize("names", ["a/g b/g", "transformer_lm", "random-001"])
def test_models_have_different_names(monkeypatch, names):
    files = [f"{name}.json" for name in names.split()]
    arguments = ["size", "data", "--models", "m", "--count", "2", "--genotypes", *files]
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    with pytest.raises(SystemExit, match=rf"^compare\.py: error: --genotypes names {files[0]}"):
        compare.main()


def test_report(tmp_path, monkeypatch, capsys):
    """A search is placed among all random genotypes, and among those without two operations."""
    losses = {"search-1": [4.0, 4.1], "search-2": [4.2, 4.3], "transformer_lm": [4.4, 4.5]}
    losses |= {f"random-{i:03d}": [4 + i / 10] for i in range(8)}
    columns = [*COLUMNS, "parameters", "seed", "loss_8", "test_perplexity", "cpu_seconds"]
    with (tmp_path / "models.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for number, (name, found) in enumerate(losses.items()):
            block = [["glu", "ffn"], ["glu", "zero" if number % 2 else "ffn"]]
            cells = to_cells(Genotype(None, block, "max", "dartsformer_lm"))
            if name == "transformer_lm":
                cells = dict.fromkeys(cells, "")
            for seed, loss in enumerate(found, 1):
                row = {
                    "name": name,
                    "parameters": 1000,
                    "seed": seed,
                    "loss_8": loss,
                    "cpu_seconds": 1,
                }
                table.writerow({**cells, **row, "test_perplexity": 2**loss})
    arguments = ["compare.py", "report", "--table", str(tmp_path / "models.csv")]
    monkeypatch.setattr(sys, "argv", arguments)
    compare.main()
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split(" | ")[0]: line.strip("| ").split(" | ")[1:] for line in lines}
    assert len({line.count("|") for line in lines[:7]}) == 1
    mean, perplexity, *places = cells["| search-1"][1:]
    assert mean == "4.050 (4.000, 4.100)" and perplexity.startswith(f"{2**4.05:.1f} [")
    assert [place.split()[0] for place in places] == ["88", "100"]
    assert cells["| mean of the 2 genotypes"][1] == "4.150 (4.050, 4.250)"
    assert cells["| 8 random genotypes"][1] == "4.350"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with a made-up text of 80 documents."""
    folder = tmp_path_factory.mktemp("work")
    lines = []
    for i in range(80):
        words = ["house", "tree", f"river {i % 7}", f"hill {i % 11}"]
        lines += [f"The {words[(i + j) % 4]} is {words[(i * j) % 4]}." for j in range(4)] + [""]
    (folder / "mine.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(work: Path, *options: str) -> str:
    """Run the script in this interpreter's environment, which it takes for an installed one."""
    environment = work / "venv"
    environment.mkdir(exist_ok=True)
    for name in ("bin", "lib", "pyvenv.cfg"):
        if not (environment / name).exists():
            (environment / name).symlink_to(Path(sys.prefix) / name)
    root = EXAMPLES.parent
    key = b"".join((root / name).read_bytes() for name in ("setup.py", "examples/install.sh"))
    key = hashlib.sha256(key + f"any [export] {root}\n".encode()).hexdigest()
    (environment / ".installed-export").write_text(f"{key}  -\n")
    command = ["bash", EXAMPLES / FOLDER / "run.sh", "--text", work / "mine.txt"]
    command += ["--work", work / "out", "--merges", "40", "--prompt", "The house", *options]
    settings = {"VENV": str(environment), "TORCH": "any", "CUDA_VISIBLE_DEVICES": ""}
    settings["PYTHONPATH"] = str(root)
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.long
def test_every_step_and_the_comparison(work):
    output = run(work, "--search-updates", "2", "--train-updates", "2")
    assert "train: 72 documents" in output and "valid: 4 documents" in output
    assert "Perplexity: " in output and "validation: perplexity " in output
    assert (work / "out" / "continuation").read_text().startswith("The house")
    assert (work / "out" / "exported" / "continue.py").is_file()
    assert Genotype.load(work / "out" / "genotype.json").family == "dartsformer_lm"
    again = run(work, "--search-updates", "2", "--train-updates", "2")
    assert "validation" not in again and "[prepare" not in again

    options = ["--work", work / "out", *"--count 2 --seeds 2 --updates 8".split()]
    ended = script(f"{FOLDER}/compare.sh", *options)
    assert ended.returncode == 0, ended.stderr
    with (work / "out" / "compare" / "models.csv").open() as file:
        table = list(csv.DictReader(file))
    seeds = [row["seed"] for row in table if not row["name"].startswith("random")]
    assert len(table) == 8 and seeds.count("1") == seeds.count("2") == 3
    rows = {row["name"]: row for row in table}
    transformer_lm = ["transformer_lm", "transformer_lm_pre_ln"]
    assert rows.keys() == {"genotype", *transformer_lm, "random-000", "random-001"}
    sizes = [int(row["parameters"]) for row in rows.values()]
    assert max(sizes) <= (1 + 3 * TOLERANCE) * min(sizes)
    assert all(float(row["loss_8"]) > 0 < float(row["test_perplexity"]) for row in rows.values())
    assert "| 2 random genotypes |" in ended.stdout and "\n| genotype |" in ended.stdout
    again = script(f"{FOLDER}/compare.sh", *options)
    assert ": start" not in again.stdout and again.stdout.endswith(ended.stdout[-200:])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("run.sh --minutes 0", "--minutes is 0, it must be a positive integer"),
        (
            "run.sh --seed 9999999999",
            "--seed is 9999999999, it must be a positive integer of up to",
        ),
        ("run.sh --bpe char", "--bpe is char, it must be subword_nmt or sentencepiece"),
        ("run.sh --merges 9 --vocabulary 9", "--vocabulary is 9, it must be left out"),
        ("prepare.sh --text none --out out", "--text is none, it must be a folder or a file"),
        ("compare.sh --updates 12", "--updates is 12, it must be a multiple of 8"),
        ("compare.sh --count 1", "--count is 1, it must be 2 or more"),
        ("compare.sh --work none", "--work is none, it must be a folder of"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    name, *arguments = command.split()
    ended = script(f"{FOLDER}/{name}", *arguments)
    assert ended.returncode == 1 and message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
