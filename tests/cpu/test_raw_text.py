"""Raw text, in Python and in fairseq's commands, is processed as prepare.sh processes a corpus."""

import json
import re
from argparse import Namespace
from pathlib import Path

import pytest
from fairseq.data.encoders import build_tokenizer
from helpers.attempts import attempt
from helpers.example_scripts import script
from helpers.exports import refusal, translate
from helpers.fairseq_commands import DERIVED, PLUGIN, start, train
from omegaconf import OmegaConf
from sacremoses import MosesDetokenizer
from sentencepiece import SentencePieceTrainer

from fairseq_dartsformer.data.normalized_moses import NormalizedMoses, NormalizedMosesConfig
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.models import DARTSformerModel
from fairseq_dartsformer.search_space.genotype import Genotype

SPLITS = {"train": 60, "valid": 20, "test": 20}
# The names of the options are the same in Python and, with hyphens, on the command line.
PROCESSING = {
    "subword_nmt": {
        "tokenizer": "normalized_moses",
        "bpe": "subword_nmt",
        "bpe_codes": "codes/codes",
    },
    "sentencepiece": {
        "bpe": "sentencepiece",
        "sentencepiece_model": "codes/sentencepiece.bpe.model",
    },
}
GENOTYPE = Genotype([["conv_3", "ffn"]], [["self_attention", "ffn", "cross_attention"]])
MODEL = [*DERIVED, "--genotype", GENOTYPE.to_json()]
MODEL += "--encoder-layers 1 --decoder-layers 1".split()
SIZE = {"subword_nmt": ["--merges", "20"], "sentencepiece": ["--vocabulary", "90"]}


def write_corpus(folder: Path) -> None:
    """Text with everything that editors and the web put into it; the pairs differ."""
    folder.mkdir()
    for split, count in SPLITS.items():
        names = [f"{split} {i}" for i in range(count)]
        source = [f"“Nr. {n}”, well-known – it’s (a cat's) & 1\u00a0000 \x01house…" for n in names]
        target = [f"»{n}« \x1b\ufeffcães, à-la 5\u202f% ½ ﬁm" for n in names]
        (folder / f"{split}.en").write_text("\n".join(source) + "\n", encoding="utf-8")
        (folder / f"{split}.pt-BR").write_text("\n".join(target) + "\n", encoding="utf-8")


def prepare(folder: Path, bpe: str, workers: int = 1) -> None:
    given = f"--source-lang en --target-lang pt-BR --max-ratio 9 --bpe {bpe} --workers {workers}"
    options = ["--text", folder / "raw", "--out", folder, *given.split(), *SIZE[bpe]]
    result = script("prepare.sh", *options)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module", params=PROCESSING)
def prepared(request, data, tmp_path_factory) -> tuple[str, Path]:
    """The name of the BPE and a folder with data and a trained model."""
    folder = tmp_path_factory.mktemp(request.param)
    write_corpus(folder / "raw")
    prepare(folder, request.param)
    languages = "--source-lang en --target-lang pt_BR --max-update 30".split()
    train(MODEL, folder / "data-bin", folder / "model", *languages)
    return request.param, folder


def options_of(bpe: str, folder: Path) -> dict[str, str]:
    return {
        name: str(folder / value) if value.startswith("codes/") else value
        for name, value in PROCESSING[bpe].items()
    }


def load(bpe: str, folder: Path):
    given = options_of(bpe, folder)
    place = folder / "model" / "checkpoints"
    return DARTSformerModel.from_pretrained(
        place, "checkpoint_last.pt", folder / "data-bin", **given
    )


def test_tokens_are_those_of_the_data(prepared):
    bpe, folder = prepared
    hub = load(bpe, folder)
    for split in ("valid", "test"):
        hub.task.load_dataset(split)
        pairs = hub.task.dataset(split)
        raw = [(folder / "raw" / f"{split}.{x}").read_text().splitlines() for x in ("en", "pt-BR")]
        assert len(pairs) == 20
        for pair, source, target in zip(pairs, *raw, strict=True):
            assert hub.encode(source).tolist() == pair["source"].tolist()
            assert hub.encode_translation(target).tolist() == pair["target"].tolist()


def test_every_way_gives_the_same_translations(prepared, tmp_path):
    """Python; generate, with its pieces joined and detokenised; interactive on raw text."""
    bpe, folder = prepared
    path = f"{folder}/model/checkpoints/checkpoint_last.pt"
    common = [str(folder / "data-bin"), "--user-dir", PLUGIN, "--path", path, "--cpu"]
    common += "--beam 3 --max-len-b 30 --required-batch-size-multiple 1".split()
    join = "--remove-bpe=sentencepiece" if bpe == "sentencepiece" else "--remove-bpe"
    generated = start("generate", [*common, join], tmp_path / "generate").wait().stdout
    given = [f"--{n.replace('_', '-')}={v}" for n, v in options_of(bpe, folder).items()]
    given += ["--source-lang", "en", "--target-lang", "pt_BR"]
    raw = folder / "raw" / "test.en"
    run = start("interactive", [*common, *given, "--input", str(raw)], tmp_path / "interactive")
    translations = load(bpe, folder).translate(raw.read_text().splitlines(), beam=3, max_len_b=30)
    hypotheses = texts(generated, "H")
    if bpe == "subword_nmt":
        hypotheses = [MosesDetokenizer("pt").detokenize(line.split()) for line in hypotheses]
    assert translations == hypotheses == texts(run.wait().stdout, "D")
    assert any(translations) and not any("@@" in t or "▁" in t for t in translations)


def test_an_exported_model_processes_text(prepared, tmp_path):
    """As from_pretrained does. Codes that are not those of the export are one line."""
    bpe, folder = prepared
    output, path = tmp_path / "out", folder / "model" / "checkpoints" / "checkpoint_last.pt"
    (codes,) = (name for name in options_of(bpe, folder).values() if "codes/" in name)
    arguments = ["-o", str(output), "--codes", codes, *["--moses"][: bpe == "subword_nmt"]]
    assert attempt("export", str(path), *arguments).status == 0
    assert json.loads((output / "config.json").read_text())["bpe"] == bpe
    text = (folder / "raw" / "test.en").read_text() + "  \u00a0 a  b \r\n"
    run = translate(output, text, *"--beam 3 --max-len-a 0 --max-len-b 30".split())
    lines = [line.strip() for line in text.split("\n")[:-1]]
    expected = load(bpe, folder).translate(lines, beam=3, max_len_b=30)
    assert run.stdout.split("\n")[:-1] == expected, run.stderr
    good = (output / "codes").read_bytes()
    for bad in (b"", good[: len(good) // 2], b"\xff" + good, good[:-1] + b"w"):
        (output / "codes").write_bytes(bad)
        assert "codes: ValueError: is not the file that was exported" in refusal(output)


def test_sentencepiece_models_that_are_not_exported(tmp_path):
    """Damaged ones, and one with Moses' rules."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    with good.open("wb") as file:
        lines = iter(["one line of text", "another line of text"])
        SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=file, model_type="bpe", vocab_size=20
        )
    arguments = ["missing.pt", "-o", str(tmp_path / "out"), "--codes"]
    assert "missing.pt cannot be read" in attempt("export", *arguments, str(good)).line
    line = attempt("export", *arguments, str(good), "--moses").line
    assert line.startswith(f"--moses is given, and --codes {good} is a SentencePiece model")
    content = good.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\xff" + content, b"\0" * 100):
        bad.write_bytes(damaged)
        line = attempt("export", *arguments, str(bad)).line
        assert line.startswith(f"--codes is {bad}: neither BPE codes of subword-nmt nor")


def texts(output: str, letter: str) -> list[str]:
    found = re.findall(rf"^{letter}-(\d+)\t\S+\t(.*)$", output, re.MULTILINE)
    return [text for _, text in sorted(found, key=lambda line: int(line[0]))]


@pytest.mark.parametrize("name", ["source_lang", "target_lang"])
def test_the_tokenizer_needs_languages(name):
    """A configuration without a task has none of them, and that of a task may have none."""
    given = {"source_lang": "en", "target_lang": "de"}
    assert build_tokenizer(Namespace(tokenizer="normalized_moses", **given))
    with_task = OmegaConf.structured(NormalizedMosesConfig(**given | {name: None}))
    del given[name]
    without = Namespace(tokenizer="normalized_moses", **given)
    for build, cfg in ((NormalizedMoses, with_task), (build_tokenizer, without)):
        with pytest.raises(InputError, match=f"--{name[:6]}-lang is missing"):
            build(cfg)


def test_interrupted_work_is_repeated(prepared):
    """With the same bytes, also by other numbers of processes."""
    bpe, folder = prepared
    (codes,) = (folder / name for name in PROCESSING[bpe].values() if "codes/" in name)
    binarised = (p for p in (folder / "data-bin").iterdir() if p.suffix != ".log")
    before = {path: path.read_bytes() for path in (codes, *(folder / "bpe").iterdir(), *binarised)}
    assert len(before) > 20
    for path, content in before.items():
        path.write_bytes(content[: len(content) // 2])
    for step in ("codes", "bpe", "data-bin"):
        (folder / f"{step}.done").unlink()
    prepare(folder, bpe, workers=2)
    assert {path: path.read_bytes() for path in before} == before
