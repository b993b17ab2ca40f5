"""The paper's tables as data: each row, the paper's numbers for it, and the runs it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Search:
    """A search and how its genotype is found.

    Attributes:
        options: of ``fairseq-train``, in addition to the scale's.
        size: key of the scale's sizes of this architecture.
        arch: the supernet.
        strategy: ``darts`` derives the genotype from alpha; others evolve it on the supernet.
    """

    options: str = ""
    size: str = "base"
    arch: str = "dartsformer_search"
    strategy: str = "darts"

    @property
    def name(self) -> str:
        """Name of its folder; searches that tables share run once."""
        return ".".join(
            [self.arch, self.size, self.strategy, *self.options.replace("--", "").split()]
        )


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        cells: text of the first columns.
        paper: the paper's numbers by measure.
        arch: the architecture to train, or ``None``.
        size: key of the scale's sizes of this architecture.
        search: source of the genotype; ``None`` for a fixed architecture.
        random: alternatively, seed of a genotype drawn uniformly, s = 2, max pooling.
        pair: number of the data set to train on.
        against: cells of the row whose BLEU is subtracted for ``gain``.
        flags: options of the model that are true, in addition to its sizes.
        perturbation: select the genotype by perturbation, on the validation text, not by argmax.
    """

    cells: tuple[str, ...]
    paper: Mapping[str, str] = field(default_factory=dict)
    arch: str | None = None
    size: str = "base"
    search: Search | None = None
    random: int | None = None
    pair: int = 0
    against: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()
    perturbation: bool = False

    @property
    def name(self) -> str:
        """Name of its folder for each data set; models that tables share are trained once."""
        parts = [str(self.arch), self.size, *self.flags]
        if self.search is not None:
            parts += ["of", self.search.name, *["perturbation"] * self.perturbation]
        if self.random is not None:
            parts += ["random", str(self.random)]
        return ".".join(parts)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: title with its number.
        head: headers of the first columns.
        measures: the other columns.
        rows: rows in the paper's order.
        targets: target languages by number of the pair, if there are several.
    """

    title: str
    head: tuple[str, ...]
    measures: tuple[str, ...]
    rows: tuple[Row, ...]
    targets: tuple[str, ...] = ()


def dartsformer(pooling: str, layers: int, splits: int = 2, **more: str) -> Search:
    """A search of DARTSformer (Section 3.2)."""
    options = f"--pooling {pooling} --search-layers {layers} --encoder-splits {splits}"
    return Search(options, **more)


TARGETS = ("de", "fr", "cs")  # Table 4's
WIDTH = "hidden size of search"  # Table 5's
BEST = dartsformer("max", 2)  # used in Sections 4.2 to 4.4
PRE_NORM = ("encoder_normalize_before", "decoder_normalize_before")  # of fairseq's Transformer
DARTS = Search("--search-layers 2", "search", "darts_transformer_search")


def paper(bleu: str, parameters: str | None = None, **more: str) -> dict[str, str]:
    """The paper's numbers."""
    return {"BLEU": bleu, **({"parameters": parameters} if parameters else {}), **more}


def table1() -> Iterator[Row]:
    yield Row(("Transformer", "", ""), paper("27.7", "61.1M"), "transformer")
    cells = ("Transformer, Pre-LN (not in the paper)", "", "")
    yield Row(cells, arch="transformer", flags=PRE_NORM)
    yield Row(("Evolved Transformer", "", ""), paper("28.2", "64.1M"), "evolved_transformer")
    for pooling, numbers in {"max": ("18.7", "60.1M"), "avg": ("16.8", "61.6M")}.items():
        search = dartsformer(pooling, 2, strategy="uniform_sampling")
        yield Row(("Sampling", pooling, "2"), paper(*numbers), "dartsformer", search=search)
    reported = {
        ("max", 1): ("27.9", "64.5M"),
        ("max", 2): ("28.4", "65.2M"),
        ("avg", 1): ("28.3", "66.0M"),
        ("avg", 2): ("28.3", "63.4M"),
    }
    for (pooling, s), numbers in reported.items():
        cells = ("DARTSformer", pooling, str(s))
        yield Row(cells, paper(*numbers), "dartsformer", search=dartsformer(pooling, s))
    cells = ("DARTSformer, selection by perturbation (not in the paper)", "max", "2")
    yield Row(cells, arch="dartsformer", search=BEST, perturbation=True)
    for seed in (1, 2, 3):
        cells = (f"random genotype {seed} (not in the paper)", "max", "2")
        yield Row(cells, arch="dartsformer", random=seed)


def table2() -> Iterator[Row]:
    reported = {"max": ("28.4", "28.0", "27.4"), "avg": ("28.3", "27.9", "27.1")}
    for pooling, scores in reported.items():
        for splits, bleu in zip((2, 3, 4), scores, strict=True):
            cells = (pooling, f"{splits}, {splits + 1}")
            search = dartsformer(pooling, 2, splits)
            yield Row(cells, paper(bleu), "dartsformer", search=search)


def table3() -> Iterator[Row]:
    cost = {"price": "$150k", "updates": "about 874 times", "hardware": "200 TPU v2"}
    yield Row(("Evolved Transformer",), cost)
    cost = {"price": "$1.25k", "updates": "60,000", "hours of search": "40", "hardware": "8 V100"}
    yield Row(("DARTSformer",), cost, search=BEST)


def table4() -> Iterator[Row]:
    reported = {
        ("Transformer", "base"): ("27.7", "40.0", "27.0"),
        ("Evolved Transformer", "base"): ("28.2", "40.6", "27.6"),
        ("DARTSformer", "base"): ("28.4", "40.1", "27.9"),
        ("Transformer", "big"): ("29.1", "41.2", "28.1"),
        ("Evolved Transformer", "big"): ("29.3", "41.3", "28.2"),
        ("DARTSformer", "big"): ("29.8", "41.3", "28.5"),
    }
    for (model, size), scores in reported.items():
        arch = model.lower().replace(" ", "_")
        search = BEST if model == "DARTSformer" else None
        for pair, bleu in enumerate(scores):
            cells = (model, size, f"En-{TARGETS[pair].title()}")
            around = "about 214.7M" if size == "big" else None  # Section 4.2
            yield Row(cells, paper(bleu, around), arch, size, search, pair=pair)
    for pair, target in enumerate(TARGETS):
        cells = ("DARTSformer, average pooling (not in the paper)", "base", f"En-{target.title()}")
        yield Row(cells, arch="dartsformer", search=dartsformer("avg", 2), pair=pair)


def table5() -> Iterator[Row]:
    reported = {
        "tiny": ("24.2", "120"),
        "small": ("26.3", "240"),
        "medium": ("27.5", "480"),
        "base": ("28.4", "960"),
    }
    for size, (bleu, width) in reported.items():
        numbers = paper(bleu, **{WIDTH: width})
        search = dartsformer("max", 2, size=size)
        yield Row((f"DARTSformer, searched {size}",), numbers, "dartsformer", search=search)
    cells = ("DARTSformer, average pooling, searched small (not in the paper)",)
    yield Row(cells, arch="dartsformer", search=dartsformer("avg", 2, size="small"))
    numbers = paper("27.7", **{WIDTH: "320"})
    yield Row(("DARTS on a Transformer",), numbers, "darts_transformer", search=DARTS)
    yield Row(("Transformer",), paper("27.7"), "transformer")


def figure5() -> Iterator[Row]:
    # Base and big are Table 4's.
    gains = {"small": "1.3", "medium": "0.9", "base": "0.7", "big": "0.7"}
    scores = {"base": ("27.7", "28.4"), "big": ("29.1", "29.8")}
    for size, gain in gains.items():
        bleu = [paper(score) for score in scores[size]] if size in scores else [{}, {}]
        cells = ("Transformer", size)
        yield Row(cells, bleu[0], "transformer", size)
        numbers = {**bleu[1], "gain": gain}
        yield Row(("DARTSformer", size), numbers, "dartsformer", size, BEST, against=cells)


SCORE = ("parameters", "BLEU")
COST = ("hours of search", "peak memory of search")
TABLES = {
    "table1": Table(
        "Table 1: search setups",
        ("model", "pooling", "search layers"),
        SCORE + COST,
        tuple(table1()),
    ),
    "table2": Table("Table 2: splits", ("pooling", "splits"), SCORE, tuple(table2())),
    "table3": Table(
        "Table 3: cost of the search",
        ("model",),
        ("price", "updates", "hardware", *COST),
        tuple(table3()),
    ),
    "table4": Table(
        "Table 4: languages and sizes", ("model", "size", "data"), SCORE, tuple(table4()), TARGETS
    ),
    "table5": Table(
        "Table 5: hidden size of the search", ("search",), (WIDTH, *SCORE, *COST), tuple(table5())
    ),
    "figure5": Table("Figure 5: sizes", ("model", "size"), (*SCORE, "gain"), tuple(figure5())),
}
