"""`dartsformer-parameters`: the counts are those of real models, near the paper's."""

import re
import sys

import pytest
from fairseq.data import Dictionary
from helpers.models import Task, every_operation_once
from omegaconf import OmegaConf

from fairseq_dartsformer.cli import memory
from fairseq_dartsformer.cli import parameters as command
from fairseq_dartsformer.memory.planner import count_parameters, training_config
from fairseq_dartsformer.models import DARTSTransformerModel, EvolvedTransformerModel
from fairseq_dartsformer.models.config import EvolvedConfig, GenotypeConfig


def table(monkeypatch, capsys, *options: str) -> dict[str, tuple[int, str]]:
    monkeypatch.setattr(sys, "argv", ["dartsformer-parameters", *options])
    command.cli_main()
    rows = re.findall(r"^\| (\w+) \| ([\d,]+) \| (.*) \|$", capsys.readouterr().out, re.M)
    return {name: (int(count.replace(",", "")), paper) for name, count, paper in rows}


def test_every_architecture_is_near_the_papers_number(monkeypatch, capsys):
    """5 %, by what the paper leaves open: vocabulary, inner widths, architectures."""
    counts = table(monkeypatch, capsys)
    assert list(counts) == list(command.ARCHITECTURES)
    stated = {name: float(re.search(r"[\d.]+", p)[0]) for name, (_, p) in counts.items() if p}
    assert stated.keys() == command.PAPER.keys()
    for name, millions in stated.items():
        assert counts[name][0] / 1e6 == pytest.approx(millions, rel=0.05)
    # Figure 5: a DARTSformer and a Transformer of each size are about as large.
    for size in ("_small", "_medium", "", "_big"):
        fairseqs = "transformer_vaswani_wmt_en_de_big" if size == "_big" else f"transformer{size}"
        assert counts[f"dartsformer{size}"][0] == pytest.approx(counts[fairseqs][0], rel=0.2)


def test_options(monkeypatch, capsys, tmp_path):
    genotype = tmp_path / "genotype.json"
    genotype.write_text(every_operation_once(2, None).to_json().replace("\n", ""))
    (tmp_path / "short.json").write_text(command.TRANSFORMER.to_json())
    default = table(monkeypatch, capsys, "--vocabulary", "1000")
    same = table(
        monkeypatch, capsys, *f"--vocabulary 1500 --genotype {tmp_path / 'short.json'}".split()
    )
    widths = {"transformer_small": 128, "transformer_medium": 256, "transformer": 512}
    widths |= {"dartsformer": 256, "darts_transformer": 512, "dartsformer_search_tiny": 128}
    for name, width in widths.items():
        assert same[name][0] - default[name][0] == 500 * width
    # Seven layers do not make a stack of six.
    monkeypatch.setattr(sys, "argv", ["dartsformer-parameters", "--genotype", str(genotype)])
    with pytest.raises(SystemExit) as stop:
        command.cli_main()
    assert stop.value.code == 1
    assert "--encoder-layers is 6" in capsys.readouterr().err


@pytest.mark.parametrize("parser", [command.get_parser(), memory.get_parser()])
def test_fairseqs_own_symbols_are_in_every_dictionary(parser, capsys):
    symbols = len(Dictionary())
    assert parser.parse_args(["--vocabulary", str(symbols + 1)]).vocabulary == symbols + 1
    with pytest.raises(SystemExit):
        parser.parse_args(["--vocabulary", str(symbols)])
    assert "argument --vocabulary: is '4', it must be" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["darts_transformer", "evolved_transformer"])
def test_counts_are_of_real_models(family):
    options = {"hidden_dim": 16, "ffn_dim": 24, "attention_heads": 2, "share_all_embeddings": True}
    options |= {"encoder_layers": 2, "decoder_layers": 2}
    if family == "darts_transformer":
        options |= {"embed_dim": 8, "genotype": command.TRANSFORMER.to_json()}
        model, config = DARTSTransformerModel, GenotypeConfig
    else:
        model, config = EvolvedTransformerModel, EvolvedConfig
    positions = {"max_source_positions": 64, "max_target_positions": 64}
    real = model.build_model(OmegaConf.structured(config(**options, **positions)), Task(46))
    given = []
    for name, value in options.items():
        given += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    assert count_parameters(training_config(family, given), 50) == sum(
        p.numel() for p in real.parameters()
    )
