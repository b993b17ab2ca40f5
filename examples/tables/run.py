"""Runs a table or figure of the paper at a chosen scale and prints it beside the paper's numbers.

usage: python examples/tables/run.py table1 --scale tiny --data prepared/data-bin

After an interruption the same command continues; it skips finished steps.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any
from zlib import crc32

from commands import Step, StepError, write
from data_set import Data
from runner import Runner
from scales import SCALES, arguments
from tables import TABLES, Row, Table

from fairseq_dartsformer.cli.command import positive_integer
from fairseq_dartsformer.errors import InputError, flag

FORMATS = {
    "parameters": lambda n: f"{n / 1e6:.2f}M",
    "BLEU": "{:.1f}".format,
    "gain": "{:+.1f}".format,
    "updates": "{:,}".format,
    "hidden size of search": str,
    "hours of search": lambda n: f"{n:.2f}" if n >= 0.1 else f"{n:.1g}",
    "peak memory of search": lambda n: f"{n / 1e9:.2f} GB",
}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("table", choices=[*TABLES, "figure1"])
    add("--scale", choices=list(SCALES), default="small", help="(default: small)")
    add(
        "--data",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="binarised, as OUT/data-bin of examples/prepare.sh; Table 4's: any of De, Fr and Cs",
    )
    add("--reference", type=Path, nargs="+", metavar="FILE", help="(default: OUT/text/test.TARGET)")
    add(
        "--search-data",
        type=Path,
        metavar="FOLDER",
        help="data of the searches (default: the first of --data)",
    )
    add("--out", type=Path, default=Path("tables"), metavar="FOLDER", help="(default: tables)")
    add("--seeds", type=int, nargs="+", metavar="N", help="(default: 1)")
    add("--rows", nargs="+", metavar="TEXT", help="only rows that contain one of these texts")
    for option in ("--search-updates", "--train-updates"):
        add(option, type=positive_integer, metavar="N", help="overrides the scale")
    return parser


def render(table: Table, rows: Sequence[Row], results: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown: for each measure the mean over seeds, and the paper's number."""
    bleu: dict[tuple[str, ...], float] = {}
    for row in rows:
        scores = [r["BLEU"] for r in results if r["row"] == row.cells and "BLEU" in r]
        if scores:
            bleu[row.cells] = mean(scores)
    reported = [m for m in table.measures if any(m in row.paper for row in table.rows)]
    head = [*table.head]
    for measure in table.measures:
        head += [measure] * (measure in FORMATS) + [f"{measure}, the paper's"] * (
            measure in reported
        )
    lines = [head, ["---"] * len(head)]
    for row in rows:
        own = sorted((r for r in results if r["row"] == row.cells), key=lambda r: r["seed"])
        cells = list(row.cells)
        for measure in table.measures:
            if measure in FORMATS:
                cells.append(_measured(measure, row, own, bleu))
            if measure in reported:
                cells.append(row.paper.get(measure, ""))
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _measured(measure: str, row: Row, results: Sequence[Mapping[str, Any]], bleu: Mapping) -> str:
    if measure == "gain":
        known = row.cells in bleu and row.against in bleu
        return FORMATS["gain"](bleu[row.cells] - bleu[row.against]) if known else ""
    values = [result[measure] for result in results if measure in result]
    if not values:
        return ""
    text = FORMATS[measure](mean(values))
    if measure == "BLEU":
        scores = [f"{r['BLEU']:.1f} ± {r['confidence']:.1f}" for r in results if "BLEU" in r]
        return scores[0] if len(scores) == 1 else f"{text} ({', '.join(scores)})"
    least, most = FORMATS[measure](min(values)), FORMATS[measure](max(values))
    return text if least == most else f"{text} ({least} to {most})"


def run_table(args: argparse.Namespace) -> str:
    """Run rows of a table, write NAME.json and NAME.md with all known rows; return the latter.

    Raises:
        StepError, InputError: as :class:`Runner`, or data or rows are missing.
    """
    table = TABLES[args.table]
    references = args.reference or [None] * len(args.data)
    if len(references) != len(args.data):
        raise StepError(f"--reference: {len(references)} files for {len(args.data)} of --data")
    data = [Data(folder, text) for folder, text in zip(args.data, references, strict=True)]
    search_data = data[0]
    if args.search_data is not None:  # needs no test set
        search_data = Data(args.search_data, data[0].reference, "--search-data")
    placed = _placed(data, table)
    rows = [r for r in table.rows if _wanted(r, args.rows)]
    if not rows:
        raise StepError(f"--rows is {' '.join(args.rows)}: no row of {args.table} contains it")
    out = args.out / args.scale
    runner = Runner(
        SCALES[args.scale], out, search_data, placed, args.search_updates, args.train_updates
    )
    settings = {"data": [d and d.name for d in placed], "search data": search_data.name}
    settings["references"] = [d and crc32(d.reference.read_bytes()) for d in placed]
    settings |= {"updates": [args.search_updates, args.train_updates]}
    path = out / f"{args.table}.json"
    results = _known(path, settings)
    runs = [(row, seed) for row in rows for seed in args.seeds or [1]]
    for number, (row, seed) in enumerate(runs, 1):
        print(
            f"[{number}/{len(runs)}] {', '.join(filter(None, row.cells))}; seed {seed}", flush=True
        )
        results[row.cells, seed] = runner.run(row, seed)
        write(path, json.dumps({"settings": settings, "results": [*results.values()]}, indent=1))
    text = f"{table.title}, scale {args.scale}\n\n"
    text += render(table, [r for r in table.rows if _has(r, results)], [*results.values()])
    write(out / f"{args.table}.md", text)
    return text


def _placed(data: Sequence[Data], table: Table) -> list[Data | None]:
    """The data sets in the order of the table's languages.

    Raises:
        StepError: there are too many, or the table does not have a data set's language.
    """
    if not table.targets:
        if len(data) > 1:
            raise StepError(f"--data: {len(data)} folders, this table takes one")
        return [*data]
    placed: list[Data | None] = [None] * len(table.targets)
    for one in data:
        target = one.languages[1]
        if target not in table.targets:
            raise StepError(
                f"--data {one.folder} is of {'-'.join(one.languages)}: this table's targets are "
                f"{', '.join(table.targets)}"
            )
        number = table.targets.index(target)
        if placed[number] is not None:
            raise StepError(
                f"--data: {placed[number].folder} and {one.folder} are both of {target}"
            )
        placed[number] = one
    return placed


def _known(path: Path, settings: Mapping[str, Any]) -> dict[tuple[tuple[str, ...], int], Any]:
    """Earlier results with the same settings, by row and seed."""
    known = json.loads(path.read_text()) if path.exists() else {"settings": None}
    if known["settings"] != settings:
        return {}
    results = [r | {"row": tuple(r["row"])} for r in known["results"]]
    return {(r["row"], r["seed"]): r for r in results}


def _wanted(row: Row, texts: Sequence[str] | None) -> bool:
    return texts is None or any(text in " ".join(row.cells) for text in texts)


def _has(row: Row, results: Mapping[tuple[tuple[str, ...], int], Any]) -> bool:
    return any(cells == row.cells for cells, _ in results)


def run_figure1(args: argparse.Namespace) -> str:
    """Plan Figure 1's memory, draw figure1.svg, write figure1.md and return the latter."""
    out = args.out / args.scale
    dims = [str(dim) for dim in SCALES[args.scale].hidden_dims]
    options = {k: SCALES[args.scale].search[k] for k in ("max_tokens", "fp16")}
    given = ["--figure", str(out / "figure1.svg"), "--hidden-dims", *dims, *arguments(options)]
    print(f"planning two searches at each hidden size: {', '.join(dims)}", flush=True)
    step = Step(out, "figure1", "fairseq_dartsformer.cli.memory", given)
    step.run()
    printed = step.log.read_text()
    printed = printed[printed.rindex("| hidden size") :]  # of the last attempt
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    rows = [[float(cell) for cell in line.strip("| ").split("|")] for line in lines[2:]]
    ratio = mean(ours / darts for _, darts, ours in rows)
    text = f"Figure 1: peak memory of a search, planned, scale {args.scale}\n\n"
    text += "\n".join(lines)
    text += f"\n\nDARTSformer's is {ratio:.2f} of DARTS's on average; the paper's, about half."
    write(out / "figure1.md", text)
    return text


def main(argv: Sequence[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.table != "figure1" and not args.data:
        parser.error("--data is needed: a folder that examples/prepare.sh has binarised")
    if args.table == "figure1":
        for option in sorted(vars(args).keys() - {"table", "scale", "out"}):
            if getattr(args, option) is not None:
                parser.error(f"figure1 is planned, not run: it does not take {flag(option)}")
    try:
        print(run_figure1(args) if args.table == "figure1" else run_table(args))
    except (StepError, InputError) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command to continue")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
