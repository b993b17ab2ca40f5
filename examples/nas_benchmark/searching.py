"""Searches by every strategy, by the comparison's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holding_out import hold_out
from jobs import Job
from sampling import from_cells, to_cells
from settings import BUDGET_UPDATES, PERTURBATION, SELECTION_PAIRS, WITH_ZERO, options, scaled
from training import MODEL, OPTIMIZATION

from fairseq_dartsformer.search.snapshot import derive, load_snapshot
from fairseq_dartsformer.search_space.genotype import Genotype

SEARCH = f"""
--arch dartsformer_search --pooling max {MODEL}
--task translation_search {OPTIMIZATION} --max-tokens 1000
--save-interval-updates 500 --disable-validation
"""
EVOLUTION = """
--score loss --population 50 --parents 10 --generations 4 --crossovers 25 --mutations 25
--max-tokens 8000
"""
SELECT = "--selection perturbation --max-tokens 8000 --cpu"
COLUMNS = ["name", "seed", "updates", "cpu_seconds", "peak_bytes"]
WITHOUT_ZERO = "without zero: "  # how the columns of the second genotype begin


@dataclass(frozen=True)
class Search(Job):
    """One search, and the genotypes derived from it.

    Attributes:
        budget: the search costs as much as so many updates of darts.
        with_zero: whether `zero` is a candidate.
        latency: the table of `dartsformer-latency` and the target in milliseconds that penalise
            alpha's loss.
        perturbation: select by perturbation, on training text, in place of the argmax.
    """

    strategy: str
    seed: int
    data: Path
    out: Path
    budget: int = BUDGET_UPDATES
    with_zero: bool = False
    latency: tuple[Path, float] | None = None
    perturbation: bool = False

    @property
    def name(self) -> str:
        """In the table."""
        return self._searched + PERTURBATION * self.perturbation

    @property
    def folder(self) -> Path:
        """That of the search, whatever selects afterwards."""
        return self.out / f"{self._searched}.seed{self.seed}"

    @property
    def _searched(self) -> str:
        target = f"-{self.latency[1]:g}ms" if self.latency else ""
        return self.strategy + WITH_ZERO * self.with_zero + target

    @property
    def updates(self) -> int:
        """Length of the search."""
        return scaled(self.strategy, self.budget)

    def complete(self, lock: int) -> dict[str, str]:
        """Search and derive, with and without `zero`.

        Evolution, or selection by perturbation, gives one genotype; its time and memory are added.
        """
        words = self.command()
        self.claim(words)
        if not self.text.exists():
            hold_out(self.data / "data-bin", self.text, self.languages())
        last = self.folder / "checkpoint_last.pt"
        if not (self.folder / "cpu_seconds").exists():
            self.train_to_the_end(words, self.updates, lock)
        seconds, peak = (int((self.folder / name).read_text()) for name in COLUMNS[3:])
        if self.perturbation or self.strategy == "uniform_sampling":
            genotype, more, its_peak = self._follow_up(last, lock)
            without, seconds, peak = genotype, seconds + more, max(peak, its_peak)
        else:
            snapshot = load_snapshot(str(last))
            genotype, without = derive(snapshot), derive(snapshot, ("zero",))
        cells = to_cells(genotype)
        cells |= {WITHOUT_ZERO + name: cell for name, cell in to_cells(without).items()}
        numbers = map(str, (self.seed, self.updates, seconds, peak))
        return dict(zip(COLUMNS, [self.name, *numbers], strict=True)) | cells

    @property
    def text(self) -> Path:
        """Binarised data. Sampling divides the training text: its evolution may not select on the
        validation text, by which the results are judged."""
        sampling = self.strategy == "uniform_sampling"
        return (self.folder if sampling else self.data) / "data-bin"

    def command(self) -> list[str]:
        """Arguments of ``python``: the module, then fairseq-train's."""
        words = ["-m", "fairseq_cli.train", *self.data_options(self.text), *SEARCH.split()]
        words += ["--seed", str(self.seed), "--save-dir", str(self.folder)]
        words += options(self.strategy, self.updates, self.with_zero)
        if self.latency:
            table, target = self.latency
            words += ["--arch-penalty", "latency:1", "--latency-table", str(table)]
            words += ["--latency-target", str(target)]
        if self.strategy != "uniform_sampling":
            words[words.index("--optimizer") + 1] = "bilevel_adam"
        return words

    def _follow_up(self, checkpoint: Path, lock: int) -> tuple[Genotype, int, int]:
        """Run the evolution or the selection by perturbation: genotype, CPU seconds, peak bytes."""
        kind = "perturbation" if self.perturbation else "evolution"
        found, cost, log = (self.folder / f"{kind}.{end}" for end in ("json", "cost", "log"))
        if not cost.exists():
            if self.perturbation:
                pairs = self.folder / "selection-pairs"
                if not pairs.exists():
                    where = self.data / "data-bin", pairs, self.languages()
                    hold_out(*where, SELECTION_PAIRS, splits=("valid",))
                words = ["derive", str(checkpoint), "--data", str(pairs), *SELECT.split()]
            else:
                words = ["evolve", str(checkpoint), str(self.text), *EVOLUTION.split()]
            words[0] = f"fairseq_dartsformer.cli.{words[0]}"
            words += ["--seed", str(self.seed), "-o", str(found)]
            seconds, peak = self.execute(["-m", *words], log, lock)
            cost.write_text(f"{seconds:.0f} {peak}")
        seconds, peak = map(int, cost.read_text().split())
        return Genotype.load(str(found)), seconds, peak


def found_in(row: dict[str, str], without_zero: bool) -> Genotype:
    """The genotype in a row of the table of searches."""
    begin = WITHOUT_ZERO if without_zero else ""
    return from_cells(
        {name: row[begin + name] for name in ("pooling", "norm", "encoder", "decoder")}
    )
