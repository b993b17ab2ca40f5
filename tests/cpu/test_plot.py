"""`dartsformer-plot`: nothing is missing, cut off or covered; colours; what it refuses."""

import io
import itertools
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from models import every_operation_once
from searches import saved, search_state

from fairseq_dartsformer import plots
from fairseq_dartsformer.alpha_history import AlphaHistory
from fairseq_dartsformer.cli import plot as command
from fairseq_dartsformer.families import FAMILIES
from fairseq_dartsformer.genotype import BUILTIN, Genotype
from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.plots.style import LOOKS, in_words, text_color
from fairseq_dartsformer.search_result import derive, search_result
from fairseq_dartsformer.search_space import entropy

RECORDED = Path(__file__).parents[2] / "examples/results/en-de/alpha.tsv"
FIGURES = [
    plots.alpha_figure,
    plots.heat_figure,
    plots.certainty_figure,
    plots.choices_figure,
]


def results(count=5, **options):
    return [search_result(search_state(seed, **options), f"{seed}.pt") for seed in range(count)]


def texts(figure) -> list[tuple[str, Bbox]]:
    """The texts that a figure shows, each with its box in pixels; not those in reserve."""
    with patch.object(Text, "draw", autospec=True) as draw:
        figure.draw(FigureCanvasAgg(figure).get_renderer())
    drawn = [call.args[0] for call in draw.call_args_list]
    return [
        (text.get_text(), text.get_window_extent())
        for text in drawn
        if text.get_visible() and text.get_text().strip()
    ]


def check_layout(figure) -> None:
    """All text lies within the figure, and none upon another."""
    width, height = figure.get_size_inches() * figure.dpi
    found = texts(figure)
    for text, box in found:
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1 or along < 1, (one, other)


def random_genotype(layers: int, splits: int) -> Genotype:
    state = search_state(layers, layers, splits, pooling="avg")
    return derive(search_result(state, "c.pt"))


GENOTYPES = {
    **BUILTIN,
    **{f"every of {n} splits": every_operation_once(n, "max") for n in (2, 3, 4)},
    "every of a Transformer": every_operation_once(2, None),
    **{f"{s} layers of {n}": random_genotype(s, n) for s in (1, 2, 4) for n in (2, 3, 4)},
}


@pytest.mark.parametrize("name", GENOTYPES)
def test_genotype(name):
    """Every operation is there as often as in the genotype, and every split, pooling and layer."""
    genotype = GENOTYPES[name]
    figure = plots.genotype_figure(genotype)
    check_layout(figure)
    shown = [" ".join(text.split()) for text, _ in texts(figure)]
    blocks = (*genotype.encoder, *genotype.decoder)
    for operation in LOOKS:
        assert shown.count(in_words(operation)) == sum(b.count(operation) for b in blocks)
    for i in range(max(map(len, (genotype.encoder, genotype.decoder)))):
        stacks = (len(genotype.encoder) > i) + (len(genotype.decoder) > i)
        assert shown.count(f"layer {i + 1}") == stacks
    family = FAMILIES[genotype.family]
    sizes = (genotype.encoder_splits, genotype.decoder_splits)
    for k in range(max(sizes)):
        for letter in "XY":
            stacks = sum(size > k for size in sizes) if family.pooled else 0
            assert shown.count(f"${letter}_{{{k + 1}}}$") == stacks
    pooled = sum(len(layer) for layer in blocks if len(layer) > 2) if family.pooled else 0
    assert shown.count(f"{genotype.pooling} pool") == pooled


@pytest.mark.parametrize("name", GENOTYPES)
def test_a_genotype_s_words_fit_their_boxes(name):
    figure = plots.genotype_figure(GENOTYPES[name])
    found = texts(figure)
    boxes = [patch.get_window_extent() for patch in figure.findobj(FancyBboxPatch)]
    for text, inner in found:
        middle = (inner.x0 + inner.x1) / 2, (inner.y0 + inner.y1) / 2
        around = [b for b in boxes if b.contains(*middle)]
        if around and not text.startswith("layer"):
            smallest = min(around, key=lambda b: b.width * b.height)
            assert smallest.x0 < inner.x0 and inner.x1 < smallest.x1, text
            assert smallest.y0 < inner.y0 and inner.y1 < smallest.y1, text


def test_fixed_nodes_alone_have_two_frames():
    """Each operation has a frame, the fixed ones a second, white one."""
    for genotype in GENOTYPES.values():
        figure = plots.genotype_figure(genotype)
        sizes = [
            (round(patch.get_width(), 3), round(patch.get_height(), 3))
            for patch in figure.findobj(FancyBboxPatch)
        ]
        assert sizes.count((1.66, 0.84)) == genotype.decoder_block


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "space",
    [
        {"layers": 1, "splits": 2},
        {"layers": 2, "splits": 2, "encoder_operations": "ffn,zero", "decoder_operations": "glu"},
        {"layers": 2, "splits": 3, "decoder_splits": 3},
        {"layers": 4, "splits": 4},
    ],
    ids=lambda space: f"s={space['layers']} n={space['splits']}",
)
def test_history(figure, space):
    history = AlphaHistory.of(results(**space))
    drawn = figure(history)
    check_layout(drawn)
    shown = [text for text, _ in texts(drawn)]
    if figure is not plots.certainty_figure:  # which names the stack apart
        assert all(map(shown.count, map(history.name, history.nodes)))
    if figure in (plots.alpha_figure, plots.heat_figure):
        candidates = {name for node in history.nodes for name in node.weights}
        assert all(in_words(name) in shown for name in candidates)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("count", [1, 2])
def test_history_of_few_checkpoints(figure, count):
    check_layout(figure(AlphaHistory.of(results(count, layers=1))))


@pytest.mark.parametrize(
    "updates", [[300], [317], [300, 301], [7, 1000, 1999], [*range(0, 301, 20)]]
)
def test_choices_axis_has_updates_of_the_search_alone(updates):
    (result,) = results(1)
    history = AlphaHistory.of(replace(result, updates=update) for update in updates)
    figure = plots.choices_figure(history)
    check_layout(figure)
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    numbers = [int(tick.replace(",", "")) for tick in ticks]
    assert numbers == list(figure.axes[0].get_xticks()) == sorted(set(numbers))
    assert len(numbers) >= min(2, len(updates))
    assert updates[0] <= numbers[0] and numbers[-1] <= updates[-1]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
def test_recorded_history(figure):
    check_layout(figure(AlphaHistory.load(str(RECORDED))))


@pytest.mark.filterwarnings("error")
def test_losses():
    curve = [(1000 * i, 9 - math.log(i)) for i in range(1, 9)]
    for losses in (
        {"weights": curve, "alpha": curve[2:], "validation": curve[-1:]},
        {"alpha": curve[:2], "validation": curve},
        {"alpha": curve},
    ):
        drawn = plots.losses_figure(losses)
        check_layout(drawn)
        assert {name for name, _ in texts(drawn)} >= losses.keys()


# How dichromats see, upon linear RGB (Machado et al. 2009), and everyone else.
VISION = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]] @ rgb
    xyz = xyz / [0.9505, 1, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colors_are_told_apart(vision):
    """By more than 12 in CIELAB's difference, of which 2.3 is just noticeable."""
    matrix = np.array(VISION[vision])
    seen = {name: lab(np.clip(matrix @ linear(look.color), 0, 1)) for name, look in LOOKS.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 12, (one, other)


def test_every_operation_has_a_look_of_its_own():
    assert set(LOOKS) == set(DECODER_OPERATIONS)
    assert len({(look.marker, str(look.dashes)) for look in LOOKS.values()}) == len(LOOKS)
    for look in LOOKS.values():
        luminances = [
            0.2126 * r + 0.7152 * g + 0.0722 * b
            for r, g, b in (linear(look.color), linear(text_color(look.color)))
        ]
        low, high = sorted(luminances)
        assert (high + 0.05) / (low + 0.05) > 3.5  # contrast of the words upon it


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_figure_is_the_same_file(kind):
    files = []
    for _ in range(2):
        buffer = io.BytesIO()
        plots.save(plots.genotype_figure(BUILTIN["paper_fig4_approx"]), buffer, kind)
        files.append(buffer.getvalue())
    assert files[0] == files[1]
    assert files[0].startswith({"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[kind])


# -- the data


def test_history_agrees_with_derivation():
    found = results(6, layers=2)
    history = AlphaHistory.of(reversed(found))
    assert history.updates == [10_000 * n for n in range(1, 7)]
    genotypes = list(map(derive, found))
    for node, searched in zip(history.nodes, found[0].nodes(), strict=True):
        assert history.name(node) == found[0].name(searched)
        assert node.chosen == [getattr(g, node.stack)[node.layer][node.place] for g in genotypes]
        for i, result in enumerate(found):
            ranked = result.ranked(searched)
            assert {name: times[i] for name, times in node.weights.items()} == dict(ranked)
            assert node.margins[i] == ranked[0][1] - ranked[1][1]
            nats = entropy(result.alpha_of(searched)).item()
            assert node.entropies[i] == pytest.approx(nats, abs=1e-5)


def test_last_change():
    """Since then the choice is the last one; just before it was another."""
    for node in AlphaHistory.of(results(40, encoder_operations="ffn,glu")).nodes:
        change = node.last_change
        assert len(set(node.chosen[change or 0 :])) == 1
        assert change is None or node.chosen[change - 1] != node.chosen[-1]
    state = search_state(1)
    unchanged = AlphaHistory.of([search_result(state, "a"), search_result(state, "b")])
    assert [node.last_change for node in unchanged.nodes] == [None] * 8


# -- the command


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["dartsformer-plot", *map(str, arguments)])
    command.cli_main()


@pytest.fixture
def search(tmp_path) -> Path:
    """A save folder; two of the checkpoints are of the same update."""
    folder = tmp_path / "search"
    folder.mkdir()
    for seed, name in enumerate(["checkpoint_1_1", "checkpoint_1_2", "checkpoint_last"]):
        saved(folder / f"{name}.pt", seed=min(seed, 1))
    return folder


def words(path: Path) -> set[str]:
    """What an SVG says: matplotlib notes the text beside its outlines."""
    return {
        " ".join(text.split()) for text in re.findall(r"<!-- (.*?) -->", path.read_text(), re.S)
    }


def test_genotype_of_anything(search, tmp_path, monkeypatch):
    """A file, a name, a checkpoint, or the last checkpoint of a folder."""
    last = search_state(1)
    genotype = derive(search_result(last, "c.pt"))
    (tmp_path / "genotype.json").write_text(genotype.to_json())
    given = [
        [tmp_path / "genotype.json"],
        [search / "checkpoint_last.pt"],
        [search, "--kind", "genotype"],
    ]
    files = []
    for arguments in given:
        run(monkeypatch, *arguments, "-o", tmp_path / "g.svg")
        files.append((tmp_path / "g.svg").read_bytes())
    assert files[0] == files[1] == files[2]
    assert words(tmp_path / "g.svg") >= {"source embedding", "target embedding", "layer 2"}
    run(monkeypatch, "paper_fig4_approx", "-o", tmp_path / "g.svg")
    assert (tmp_path / "g.svg").read_bytes() != files[0]


@pytest.mark.parametrize("kind", [*list(command.KINDS)[1:], None])
def test_history_of_a_folder_or_table(search, tmp_path, monkeypatch, capsys, kind):
    options = ["--kind", kind] if kind else []
    run(monkeypatch, search, "-o", tmp_path / "table.tsv")
    run(monkeypatch, search, "-o", tmp_path / "folder.svg", *options)
    run(monkeypatch, *search.iterdir(), "-o", tmp_path / "files.svg", *options)
    run(monkeypatch, tmp_path / "table.tsv", "-o", tmp_path / "table.svg", *options)
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {tmp_path / 'table.svg'}"
    assert (tmp_path / "folder.svg").read_bytes() == (tmp_path / "files.svg").read_bytes()
    assert words(tmp_path / "folder.svg") == words(tmp_path / "table.svg")
    assert AlphaHistory.load(str(tmp_path / "table.tsv")).updates == [10_000, 20_000]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{search} -o a.txt", "-o a.txt: expected a suffix of pdf, png, svg, tsv"),
        ("{search} -o no/a.svg", "-o no/a.svg: there is no folder no"),
        ("{search} -o a.tsv --kind heat", "--kind is heat: a table .* has no kind"),
        ("{search}/no.pt -o a.svg", "checkpoint .*no.pt cannot be read: No such file"),
        ("{folder} -o a.svg", ".* holds no checkpoint: expected checkpoint.*.pt files"),
        ("no_such -o a.svg", "genotype no_such: neither a file nor a built-in genotype"),
        ("paper_fig4_approx -o a.svg --kind heat", "paper_fig4_approx: expected the folder of a"),
        ("paper_fig4_approx -o a.tsv", "paper_fig4_approx: expected the folder of a search, some"),
        ("{search} g.json -o a.svg", "g.json: expected the folder of a search, some of its check"),
        ("g.json {search} -o a.svg --kind genotype", "g.json: expected the folder of a search"),
        ("no.tsv -o a.svg", "no.tsv: cannot be read: No such file"),
        ("no.tsv -o a.svg --kind genotype", "--kind genotype needs a genotype or checkpoints"),
        ("{search} {folder}/checkpoint_other.pt -o a.svg", ".* has another search space than"),
        ("{sampling} -o a.svg --kind alpha", ".* uniform_sampling, which does not learn alpha"),
    ],
)
def test_bad_input(search, tmp_path, monkeypatch, capsys, arguments, message):
    folder = tmp_path / "others"
    folder.mkdir()
    if "other" in arguments:
        saved(folder / "checkpoint_other.pt", layers=1)
    sampling = search_state()
    sampling["cfg"]["task"] = {"search_strategy": "uniform_sampling"}
    torch.save(sampling, tmp_path / "sampling.pt")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    given = arguments.format(search=search, folder=folder, sampling=tmp_path / "sampling.pt")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *given.split())
    captured = capsys.readouterr()
    assert stop.value.code == 1 and captured.out == "" and captured.err.count("\n") == 1
    assert re.match(f"dartsformer-plot: error: {message}", captured.err)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_else_than_the_paper_s_operations_in_a_panel():
    """The encoder has no cross attention to draw."""
    history = AlphaHistory.of(results(2))
    for node in history.nodes:
        expected = ENCODER_OPERATIONS if node.stack == "encoder" else DECODER_OPERATIONS
        assert tuple(node.weights) == expected
