"""Properties of genotypes, paths, data and other files that are not as they should be.

Each draws one, tries it, and returns what came of it.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from hypothesis import strategies as st

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search_space.genotype import Genotype
from helpers.attempting import Outcome, attempt
from helpers.bad_corpora import corpora
from helpers.bad_inputs import damaged, genotype_texts, odd_words
from helpers.running import PLUGIN, training
from helpers.trying import EVOLVE, GENERATE, KINDS, Place, check, contents


def read_genotype(data: st.DataObject, place: Place) -> str:
    """A genotype's file is read as what stands in it, or refused by its name."""
    with place.new_folder() as folder:
        path = folder / "genotype.json"
        path.write_bytes(data.draw(genotype_texts()))
        try:
            genotype = Genotype.load(path)
        except InputError as error:
            return check(
                Outcome([], 1, "", f"x: error: {error}\n"), contents(folder), folder, path.name
            )
        assert Genotype.from_json(genotype.to_json(), "written") == genotype
        return "worked"


def use_genotype(data: st.DataObject, place: Place) -> str:
    """Commands that take a genotype."""
    with place.new_folder() as folder:
        path = folder / "genotype.json"
        path.write_bytes(data.draw(genotype_texts()))
        before = contents(folder)
        command = data.draw(st.sampled_from(["plot", "train"]))
        if command == "plot":
            options = [str(path), "-o", str(folder / "x.svg")]
        else:
            arch = data.draw(st.sampled_from(["dartsformer", "darts_transformer"]))
            kind = [*KINDS["derived"], "--arch", arch, "--genotype", str(path)]
            options = training(kind, place.data, folder, "--max-update", "1")
        return check(
            attempt(command, *options), before, folder, "genotype", "--hidden-dim", "-layers"
        )


def strange_path(data: st.DataObject, place: Place) -> str:
    """Paths at which there is no file that can be read."""
    with place.new_folder() as folder:
        path = str(folder / "strange")
        kind = data.draw(
            st.sampled_from(["missing", "folder", "loop", "socket", "long", "newline", "byte"])
        )
        made = {"folder": lambda: os.mkdir(path), "loop": lambda: os.symlink(path, path)}
        if kind in made:
            made[kind]()
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                os.chdir(folder)
                bound.bind("strange")
                os.chdir("/")
        path += {"long": "x" * 5000, "newline": "a\nb\x1b[1m", "byte": "\udcff"}.get(kind, "")
        before = contents(folder)
        good, out = str(place.checkpoints["search"]), str(folder / "x")
        data_bin = str(place.data)
        arguments = data.draw(
            st.sampled_from(
                [
                    ["derive", path],
                    ["derive", path, good, "-o", out],
                    ["derive", good, "-o", path + "/x"],
                    ["plot", path, "-o", out + ".svg"],
                    ["plot", path + ".pt", "-o", out + ".tsv"],
                    ["plot", path + ".tsv", "-o", out + ".svg"],
                    ["plot", good, "-o", path + "/x.svg"],
                    ["average", path, good, "-o", out],
                    ["average", good, "-o", path + "/x"],
                    ["average", path, "--last", "2", "-o", out],
                    ["report", path, "-o", out],
                    ["report", str(Path(good).parent), "--log", path, "-o", out],
                    ["report", str(Path(good).parent), "--retrained", path, "-o", out],
                    ["parameters", "--genotype", path],
                    ["evolve", path, data_bin, "-o", out, *EVOLVE],
                    ["evolve", good, path, "-o", out, *EVOLVE],
                    ["evolve", good, data_bin, "-o", out, *EVOLVE, "--history", path + "/x"],
                    [
                        "train",
                        *training(KINDS["search"], place.data, folder),
                        "--restore-file",
                        path,
                    ],
                    ["train", *training(KINDS["derived"], place.data, folder), "--genotype", path],
                    ["train", *training(KINDS["search"], Path(path), folder)],
                    ["generate", path, "--user-dir", PLUGIN, "--cpu", "--path", good],
                    ["generate", data_bin, "--user-dir", PLUGIN, "--cpu", "--path", path],
                ]
            )
        )
        return check(attempt(*arguments), before, folder, "strange")


def bad_data(data: st.DataObject, place: Place) -> str:
    """Dictionaries that do not fit, and data that are empty, odd or damaged."""
    with place.new_folder() as folder:
        corpus = folder / "data"
        corpus.mkdir()
        data.draw(corpora(corpus))
        before = contents(folder)
        positions = [f"--max-source-positions={data.draw(st.sampled_from([8, 1024, 3000]))}"]
        positions += [f"--max-target-positions={data.draw(st.sampled_from([8, 1024, 3000]))}"]
        sharing = data.draw(st.sampled_from([[], [], ["--share-all-embeddings"]]))
        command = data.draw(st.sampled_from(["train", "train", "train", "generate", "evolve"]))
        if command == "train":
            kind = KINDS[data.draw(st.sampled_from(list(KINDS)))]
            options = training(kind, corpus, folder, "--max-update", "2", *positions, *sharing)
            if data.draw(st.booleans()) and kind is KINDS["search"]:
                options += ["--arch-subset", "test"]
        elif command == "generate":
            options = [str(corpus), "--path", str(place.checkpoints["derived"]), *GENERATE]
        else:
            options = [str(place.checkpoints["search"]), str(corpus), "-o", str(folder / "x")]
            options += EVOLVE
        outcome = attempt(command, *options)
        return check(outcome, before, folder, str(corpus), "--", "checkpoint")


def bad_file(data: st.DataObject, place: Place) -> str:
    """Tables, logs, TensorBoard events and histories that are damaged, or say what cannot be."""
    with place.new_folder() as folder:
        kind = data.draw(st.sampled_from(list(place.files)))
        good, search = place.files[kind], place.checkpoints["search"]
        changes = [damaged(good)] if kind == "events" else [damaged(good), odd_words(good)]
        content = data.draw(st.one_of(changes))
        out = str(folder / "x")
        if kind == "events":
            shutil.copy(search, folder)
        name = {"table": "strange.tsv", "events": "events.out.tfevents.1.x"}.get(kind, "strange")
        path = folder / name
        path.write_bytes(content)
        before = contents(folder)
        arguments = {
            "table": ["plot", str(path), "-o", out + data.draw(st.sampled_from([".svg", ".tsv"]))],
            "log": ["report", str(search.parent), "--log", str(path), "-o", out],
            "events": ["report", str(folder), "-o", out],
            "history": ["evolve", str(search), str(place.data), "-o", out, *EVOLVE],
        }[kind]
        arguments += ["--history", str(path)] if kind == "history" else []
        outcome = attempt(*arguments)
        if kind == "history" and outcome.kind == "worked":
            whole = content[: content.rfind(b"\n") + 1]
            assert path.read_bytes().startswith(whole)
        return check(outcome, before, folder, name)
