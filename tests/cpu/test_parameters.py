"""`dartsformer-parameters`: the counts are those of real models, near the paper's."""

import re
from contextlib import redirect_stdout
from io import StringIO

import pytest
from fairseq.data import Dictionary
from helpers.models import Task, every_operation_once
from omegaconf import OmegaConf

from fairseq_dartsformer.cli import memory
from fairseq_dartsformer.cli import parameters as command
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.planner import count_parameters, training_config
from fairseq_dartsformer.models import DARTSTransformerModel, EvolvedTransformerModel
from fairseq_dartsformer.models.config import EvolvedConfig, SequentialDerivedConfig


def table(*options: str) -> dict[str, tuple[int, str]]:
    """For each architecture the number of parameters, and the paper's."""
    with redirect_stdout(StringIO()) as out:
        command.main(command.get_parser().parse_args(options))
    rows = re.findall(r"^\| (\w+) \| ([\d,]+) \| (.*) \|$", out.getvalue(), re.M)
    return {name: (int(count.replace(",", "")), paper) for name, count, paper in rows}


@pytest.fixture(scope="module")
def counts() -> dict[str, tuple[int, str]]:
    return table()


def test_every_architecture_is_near_the_papers_number(counts):
    """5 %, by what the paper leaves open: vocabulary, inner widths, architectures."""
    assert list(counts) == list(command.ARCHITECTURES)
    stated = {name: float(re.search(r"[\d.]+", p)[0]) for name, (_, p) in counts.items() if p}
    assert stated.keys() == command.PAPER.keys()
    for name, millions in stated.items():
        assert counts[name][0] / 1e6 == pytest.approx(millions, rel=0.05)
    # Figure 5: a DARTSformer and a Transformer of each size are about as large.
    for size in ("_small", "_medium", "", "_big"):
        fairseqs = "transformer_vaswani_wmt_en_de_big" if size == "_big" else f"transformer{size}"
        assert counts[f"dartsformer{size}"][0] == pytest.approx(counts[fairseqs][0], rel=0.2)


def test_options(counts, tmp_path, monkeypatch):
    genotype, long = tmp_path / "genotype.json", tmp_path / "long.json"
    genotype.write_text(command.TRANSFORMER.to_json())
    widths = {"transformer_small": 128, "dartsformer_small": 128, "darts_transformer": 512}
    monkeypatch.setattr(command, "ARCHITECTURES", tuple(widths))
    larger = table("--vocabulary", str(32768 + 500), "--genotype", str(genotype))
    for name, width in widths.items():
        assert larger[name][0] - counts[name][0] == 500 * width
    long.write_text(every_operation_once(1, None).to_json())  # of seven layers
    with pytest.raises(InputError, match="--encoder-layers is 6"):
        table("--genotype", str(long))


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
        model, config = DARTSTransformerModel, SequentialDerivedConfig
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
