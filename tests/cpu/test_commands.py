"""From data to translations with the tutorial's commands."""

import re

import pytest
from helpers.fairseq_commands import (
    COMMON,
    DARTS,
    DERIVED,
    EVOLVED,
    PLUGIN,
    SEARCH,
    TEXT_DARTS,
    TEXT_DERIVED,
    TEXT_SEARCH,
    TRANSLATION,
    start,
    train,
)

from fairseq_dartsformer.cli import average, derive
from fairseq_dartsformer.search_space.genotype import Genotype


def run(command: str, arguments: list[str], folder, **options):
    result = start(command, arguments, folder, **options).wait()
    assert result.status == 0, result.stderr
    return result


@pytest.mark.parametrize(
    ("kind", "derived"), [(SEARCH, DERIVED), (DARTS, [*DERIVED, "--arch", "darts_transformer"])]
)
def test_from_search_to_translation(data, tmp_path, kind, derived):
    search = tmp_path / "search" / "checkpoints"
    train(kind, data, tmp_path / "search", *"--max-update 4 --save-interval-updates 2".split())
    genotypes = tmp_path / "genotypes"
    paths = [str(search / f"checkpoint_1_{n}.pt") for n in (2, 4)]
    derive.main(derive.get_parser().parse_args([*paths, "-o", str(genotypes)]))
    assert len(list(genotypes.iterdir())) == 2
    genotype = genotypes / "checkpoint_1_4.json"
    assert Genotype.load(genotype).encoder_splits == 2

    # The checkpoint carries the genotype.
    options = [*derived, "--genotype", str(genotype), "--save-interval-updates", "4"]
    train(options, data, tmp_path / "derived", "--max-update", "4")
    train(options, data, tmp_path / "derived", "--max-update", "12")
    genotype.unlink()

    checkpoints = tmp_path / "derived" / "checkpoints"
    averaged = str(tmp_path / "average.pt")
    arguments = ["--last", "2", str(checkpoints), "-o", averaged]
    average.main(average.get_parser().parse_args(arguments))

    common = [str(data), "--user-dir", PLUGIN, "--path", averaged, "--cpu"]
    given = "--task translation --valid-subset valid --max-tokens 500".split()
    validated = run("validate", [*common, *given], tmp_path / "validate")
    assert "valid on 'valid' subset | loss" in validated.stderr + validated.stdout
    beam = "--beam 3 --batch-size 8 --required-batch-size-multiple 1".split()
    given = [*common, "--gen-subset", "test", *beam]
    generated = run("generate", given, tmp_path / "generate").stdout
    assert len(hypotheses(generated)) == 50
    assert "Generate test with beam=3: BLEU4" in generated

    # A sentence alone has the same translation.
    source = re.search(r"^S-7\t(.*)$", generated, re.MULTILINE).group(1)
    (tmp_path / "input").write_text(source + "\n")
    given = [*common, *beam[:2], "--input", str(tmp_path / "input")]
    alone = run("interactive", given, tmp_path / "alone").stdout
    assert hypotheses(alone) == {0: hypotheses(generated)[7]}


@pytest.mark.parametrize(
    ("kind", "tasks"), [(SEARCH, ["translation", "translation_search"]), (EVOLVED, ["translation"])]
)
def test_every_model_translates(data, tmp_path, kind, tasks):
    """Supernets, too; all 300 sentences in one batch, not the batches of two levels."""
    train(kind, data, tmp_path, "--max-update", "2", "--disable-validation")
    path = str(tmp_path / "checkpoints" / "checkpoint_last.pt")
    for task in tasks:
        common = [str(data), "--user-dir", PLUGIN, "--path", path, "--cpu", "--task", task]
        common += "--batch-size 300 --required-batch-size-multiple 1".split()
        validated = run("validate", [*common, "--valid-subset", "train"], tmp_path / "validate")
        output = validated.stderr + validated.stdout
        assert re.search(r"valid on 'train' subset .* bsz 300\b", output)
        arguments = "--gen-subset train --max-len-b 9 --beam 2".split()
        generated = run("generate", [*common, *arguments], tmp_path / "generate").stdout
        assert "Generate train with beam=2: BLEU4" in generated
        assert hypotheses(generated).keys() == set(range(300))


@pytest.mark.parametrize("kind", [TEXT_SEARCH, TEXT_DARTS], ids=["dartsformer_lm", "darts"])
def test_from_search_to_text(data, tmp_path, kind):
    """Perplexity in any windows, and continuations of a text."""
    train(kind, data, tmp_path / "search", *"--max-update 4".split())
    genotype = tmp_path / "genotype.json"
    search = tmp_path / "search" / "checkpoints" / "checkpoint_last.pt"
    if kind is TEXT_SEARCH:
        given = [str(data), "--user-dir", PLUGIN, "--path", str(search), "--cpu", "--task"]
        given += "language_modeling_search --gen-subset train --tokens-per-sample 8".split()
        given += ["--batch-size", "7"]  # of two levels, one batch each would be as many tokens
        scored = run("eval_lm", given, tmp_path / "train")
        words = (data.parent / "documents").read_text()
        expected = f"Evaluated {len(words.split()) + words.count(chr(10)):,} tokens"
        found = re.findall(r"Evaluated .* tokens in", scored.stdout + scored.stderr)
        assert found == [f"{expected} in"]
    derive.main(derive.get_parser().parse_args([str(search), "-o", str(genotype)]))
    family = Genotype.load(genotype).family
    options = [*TEXT_DERIVED, "--arch", family, "--genotype", str(genotype)]
    options += ["--tokens-per-sample", "16"]  # longer than all lines
    train(options, data, tmp_path / "derived", "--max-update", "12")
    genotype.unlink()

    path = str(tmp_path / "derived" / "checkpoints" / "checkpoint_last.pt")
    common = [str(data), "--user-dir", PLUGIN, "--path", path, "--cpu"]
    perplexities = []
    modes = "none", "complete --context-window 4", "eos"
    for number, mode in enumerate(modes if kind is TEXT_SEARCH else modes[:1]):
        given = f"--gen-subset test --tokens-per-sample 16 --sample-break-mode {mode}".split()
        scored = run("eval_lm", [*common, *given], tmp_path / f"eval{number}")
        words = r"Evaluated (\d+) tokens .*\n.*Perplexity: ([\d.]+)"
        tokens, perplexity = re.search(words, scored.stdout + scored.stderr).groups()
        assert int(tokens) == 50 + len((data.parent / "test.aa").read_text().split())
        perplexities.append(float(perplexity))
    given = "--task language_modeling --valid-subset test --required-batch-size-multiple 1".split()
    validated = run("validate", [*common, *given, "--batch-size", "8"], tmp_path / "validate")
    (same,) = re.findall(r"\| ppl ([\d.]+)", validated.stdout + validated.stderr)
    assert float(same) == perplexities[0]

    common += "--task language_modeling --beam 2 --max-len-b 12".split()
    lines = "--sample-break-mode eos --batch-size 8 --required-batch-size-multiple 1".split()
    given = [*common, *lines, *"--gen-subset test --prefix-size 2".split()]
    generated = hypotheses(run("generate", given, tmp_path / "generate").stdout)
    texts = (data.parent / "test.aa").read_text().splitlines()
    assert generated.keys() == set(range(50))
    for number, text in generated.items():
        assert text.split()[:2] == texts[number].split()[:2]

    # A text alone has the same continuation.
    (tmp_path / "input").write_text(" ".join(texts[7].split()[:2]) + "\n")
    given = [*common, "--input", str(tmp_path / "input")]
    assert hypotheses(run("interactive", given, tmp_path / "alone").stdout) == {0: generated[7]}


def test_fairseqs_transformer_trains_resumes_and_translates(data, tmp_path):
    """Its options, some of which are evaluated, are no code."""
    common = [str(data), "--user-dir", PLUGIN]
    options = "--task translation --arch transformer_tiny --optimizer adam --disable-validation"
    for updates in "23":
        training = [
            *common,
            *COMMON,
            *TRANSLATION[:4],
            *options.split(),
            "--save-dir",
            str(tmp_path / "checkpoints"),
        ]
        run("train", [*training, "--max-update", updates], tmp_path / updates)
    path = str(tmp_path / "checkpoints" / "checkpoint_last.pt")
    beam = "--cpu --max-len-b 9 --required-batch-size-multiple 1".split()
    generated = run("generate", [*common, "--path", path, *beam], tmp_path / "generate").stdout
    assert len(hypotheses(generated)) == 50


def hypotheses(output: str) -> dict[int, str]:
    """fairseq's translations by the number of the sentence."""
    lines = re.findall(r"^H-(\d+)\t\S+\t(.*)$", output, re.MULTILINE)
    return {int(number): text for number, text in lines}
