"""`dartsformer-report`: what the page says of a search, that it is whole by itself, and safe."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from running import DARTS, DERIVED, SAMPLING, SEARCH, train
from searches import search_state

from fairseq_dartsformer.alpha_history import AlphaHistory
from fairseq_dartsformer.cli import report as command
from fairseq_dartsformer.plots.style import in_words
from fairseq_dartsformer.report.command import OF_PROCESS, command_line, training_options
from fairseq_dartsformer.report.facts import duration
from fairseq_dartsformer.report.log import read_events, read_log
from fairseq_dartsformer.report.run import read_search

LOGGING = "--log-interval 2 --save-interval-updates 2 --max-update 8".split()
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A page read strictly: every element is closed, ids are unique.

    Attributes:
        ids, references: of its elements, and to them.
        text: of each element by its tag, in order.
        addresses: what the page would fetch or lead to.
    """

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)
        if tag in ("td", "th", "dt", "dd", "p", "pre", "h1", "h2"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self._attributes(attrs)

    def _attributes(self, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name in ("src", "href", "xlink:href", "action", "data"):
                self.addresses.append(value)
            else:
                self.addresses += re.findall(r"url\(([^)]*)\)", value or "")
            assert not name.startswith("on"), name

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data

    @property
    def facts(self) -> dict[str, str]:
        """Name and value at the top of the page."""
        words = [" ".join(cell.split()) for cell in self.cells]
        start, count = words.index("updates"), self.tags.count("dt")
        return dict(zip(words[start::2][:count], words[start + 1 :: 2][:count], strict=True))


def page_of(folder, *arguments) -> tuple[Page, str]:
    output = folder / "report.html"
    command.main(command.get_parser().parse_args([*map(str, arguments), "-o", str(output)]))
    html = output.read_text()
    return Page(html), html


def raw(folder, name: str = "last") -> dict:
    """A checkpoint as it stands in its file."""
    return torch.load(folder / "checkpoints" / f"checkpoint_{name}.pt", weights_only=False)


@pytest.fixture(scope="module")
def search(data, tmp_path_factory) -> Path:
    """A finished search's folder, with checkpoints and events; its log beside."""
    folder = tmp_path_factory.mktemp("search")
    events = str(folder / "checkpoints" / "tensorboard")
    train(SEARCH, data, folder, *LOGGING, "--log-format", "simple", "--tensorboard-logdir", events)
    return folder


def test_page_is_whole_by_itself(search, tmp_path):
    page, html = page_of(tmp_path, search / "checkpoints")
    assert len(page.ids) == len(set(page.ids))
    assert page.addresses and all(a.startswith(("#", "data:")) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a[0] == "#"} <= set(page.ids)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "@import" not in html and page.tags.count("svg") == 6
    assert 'name="viewport"' in html and "@media print" in html and "prefers-color-scheme" in html


def test_page_says_what_the_checkpoints_do(search, tmp_path):
    folder = search / "checkpoints"
    page, _ = page_of(tmp_path, folder)
    history = AlphaHistory.of(read_search(folder).result for _ in range(1))
    text = " ".join(page.cells)
    for node in history.nodes:
        assert history.name(node) in text and in_words(node.chosen[-1]) in text
    assert page.facts["updates"] == "8of 8" and page.facts["time left"] == "none"
    assert page.facts["cost"].endswith("worker-hours1 CPU worker")
    last = raw(search)
    assert f"{last['extra_state']['val_loss']:.3f}" in page.facts["validation"]
    assert json.dumps(read_search(folder).genotype.encoder[0]) in text
    for updates in (2, 4, 6, 8):
        assert page.cells.count(str(updates)) >= 2  # in the tables of choices and of losses
    for option in ("--arch-lr", "--encoder-operations", "dartsformer-derive", "dartsformer-report"):
        assert option in text


def test_log_and_events_agree(search):
    """And the means of the intervals that the checkpoints tell of."""
    log = read_log(search / "stdout")
    events = read_events(search / "checkpoints")
    run = read_search(search / "checkpoints")
    assert log.done and log.updates == 8
    for name in ("loss_weights", "loss_alpha", "alpha_entropy"):
        logged = log.curve("train_inner", name)
        assert [updates for updates, _ in logged] == [2, 4, 6, 8]
        # The last may not have been written out: a process of a test ends abruptly.
        shown = events.curve("train_inner", name)[:3]
        assert shown == [(u, pytest.approx(v, abs=1e-3)) for u, v in logged[:3]]
        if name.startswith("loss"):
            means = run.interval_means(name)
            assert means == [(u, pytest.approx(v, abs=2e-3)) for u, v in logged]
    valid = log.curve("valid", "loss")
    assert valid == [(s.updates, pytest.approx(s.validation, abs=1e-3)) for s in run.snapshots]


@pytest.mark.parametrize("form", ["simple", "json"])
def test_forms_of_logs(data, tmp_path, form):
    train(SEARCH, data, tmp_path, *LOGGING, "--log-format", form, "--no-save")
    log = read_log(tmp_path / "stdout")
    assert [u for u, _ in log.curve("train_inner", "loss_alpha")] == [2, 4, 6, 8]
    assert log.curve("valid", "loss") and log.curve("train_inner", "wps")


def test_memory_is_what_is_not_free(search, tmp_path):
    path = tmp_path / "log"
    lines = [
        "2026-01-01 | INFO | fairseq.utils | rank   0: capabilities =  8.0  ; "
        "total memory = 39.586 GB ; name = NVIDIA A100    "
    ]
    for updates, free in ((100, 12.5), (200, 11.1), (300, 12.0)):
        lines.append(
            f"2026-01-01 00:00:00 | INFO | train_inner | epoch 001:  {updates} / 900 loss=9.1, "
            f"wps=1000, num_updates={updates}, gb_free={free}, wall=5"
        )
    path.write_text("\n".join(lines))
    page, _ = page_of(tmp_path, search / "checkpoints", "--log", path)
    assert page.facts["memory"] == "28.5 GiBat the peak, of 39.6 on NVIDIA A100"
    assert page.facts["speed"].endswith("1,000 words a second")


def test_running_search(search, tmp_path):
    """Half of a search that was given more updates, its last checkpoint being written."""
    folder = tmp_path / "running"
    folder.mkdir()
    for updates in (2, 4):
        state = raw(search, f"1_{updates}")
        state["cfg"]["optimization"]["max_update"] = 10
        state["extra_state"]["previous_training_time"] = 50.0 * updates
        torch.save(state, folder / f"checkpoint_1_{updates}.pt")
    whole = (folder / "checkpoint_1_4.pt").read_bytes()
    (folder / "checkpoint_last.pt").write_bytes(whole[: len(whole) // 2])
    page, html = page_of(tmp_path, folder)
    assert page.facts["updates"] == "4of 10"
    assert page.facts["time"].startswith("3 min") and page.facts["time left"].startswith("5 min")
    assert page.facts["cost"].startswith("0.0556 worker-hours")
    assert 'value="0.4"' in html and "not finished" in html
    assert f"Left out: checkpoint {folder / 'checkpoint_last.pt'} is damaged" in html
    # What was logged since counts.
    log = tmp_path / "log"
    log.write_text("| INFO | train_inner | epoch 001: 6 / 9 loss=9, num_updates=6\n")
    page, _ = page_of(tmp_path, folder, "--log", log)
    assert page.facts["updates"] == "6of 10" and page.facts["time left"].startswith("3 min")


@pytest.mark.parametrize(
    ("logged", "cost"),
    [
        (["loss"], "worker-hours1 CPU worker"),
        (["loss", "gb_free"], "GPU-hours1 GPU"),
        ([], "worker-hours1 worker"),
    ],
    ids=["CPU", "GPU", "unknown"],
)
def test_whose_hours(search, tmp_path, logged, cost):
    """Of a training that was not given --cpu, by what fairseq has logged in each update."""
    state = raw(search)
    state["cfg"]["common"]["cpu"] = False
    metrics.reset()
    with metrics.aggregate("train"):
        for name in logged:
            metrics.log_scalar(name, 1.5, weight=0)
    state["extra_state"]["metrics"] = metrics.state_dict()
    metrics.reset()
    torch.save(state, tmp_path / "checkpoint_last.pt")
    page, _ = page_of(tmp_path, tmp_path)
    assert page.facts["cost"].endswith(cost)


def test_log_of_a_search_that_goes_on(search, tmp_path):
    """It ends where the last of its trainings ends."""
    first, log = (search / "stdout").read_text(), tmp_path / "log"
    second = first.splitlines(keepends=True)
    (start,) = (i for i, line in enumerate(second) if "begin training epoch 1" in line)
    (end,) = (i for i, line in enumerate(second) if "done training" in line)
    for lines, done in (
        (0, True),
        (start, True),
        (start + 1, False),
        (end, False),
        (end + 1, True),
    ):
        log.write_text(first + "".join(second[:lines]))
        assert read_log(log).done is done


def test_a_log_may_hold_anything_else(search, tmp_path):
    log = tmp_path / "log"
    log.write_text((search / "stdout").read_text())
    known = read_log(log).values
    with log.open("a") as file:
        for text in ("", "{", "{}", '{"num_updates": [1]}', '{"a":' * 100_000):
            file.write(f"2020-02-20 | INFO | train_inner | {text}\n")
    assert read_log(log).values == known


def test_what_files_say_is_escaped(search, tmp_path):
    nasty = '<script>alert("1")</script>&\'<b>'
    folder = tmp_path / "a<script>&b"
    folder.mkdir()
    state = raw(search)
    state["cfg"]["common"]["user_dir"] = nasty
    state["cfg"]["task"]["data"] = nasty
    state["cfg"]["task"]["search_strategy"] = nasty
    torch.save(state, folder / "checkpoint_last.pt")
    (folder / "checkpoint<i>.pt").write_text("none")
    retrained = tmp_path / "retrained"
    retrained.mkdir()
    state["cfg"]["model"]["_name"] = state["cfg"]["model"]["genotype"] = nasty
    torch.save(state, retrained / "checkpoint_last.pt")
    (retrained / "generate-test.txt").write_text(f"Generate test with beam=5: BLEU = {nasty}\n")
    log = tmp_path / "log"
    log.write_text(
        f"| INFO | u | rank 0: capabilities = 8 ; total memory = 9 GB ; name = {nasty}\n"
        "| INFO | train_inner | epoch 001: 6 / 9 loss=9, gb_free=3, num_updates=6\n"
    )
    page, html = page_of(tmp_path, folder, "--retrained", retrained, "--log", log)
    assert not {"script", "b", "i"} & set(page.tags) and "<script" not in html
    text = "".join(page.cells)
    assert text.count(nasty) >= 5 and "a<script>&b" in text


def test_retraining(data, search, tmp_path):
    """Told apart by their genotypes, with cost and score."""
    folder = search / "checkpoints"
    genotype = tmp_path / "g.json"
    genotype.write_text(read_search(folder).genotype.to_json())
    for name, given in (("other", "paper_fig4_approx"), ("ours", genotype)):
        options = [*DERIVED, "--genotype", str(given), "--max-update", "2"]
        run = train(options, data, tmp_path / name)
    folders = [tmp_path / name / "checkpoints" for name in ("ours", "other")]
    line = "Generate test with beam=5: BLEU4 = 8.17, 37.2/12.4/4.9/2.0 (BP=1.000)"
    (folders[0] / "generate-test.txt").write_text(f"H-1\t-0.1\ta\n{line}\n")
    page, _ = page_of(tmp_path, folder, "--retrained", *folders)
    cells = [" ".join(cell.split()) for cell in page.cells]
    ours, other = (cells.index(str(path)) for path in folders)
    assert cells[ours + 1 : ours + 3] == ["dartsformer", "this search's"]
    assert cells[other + 1 : other + 3] == ["dartsformer", "another"]
    (parameters,) = re.findall(r"num. shared model params: (\S+)", run.stdout)
    assert cells[ours + 3] == parameters
    assert cells[ours + 4] == "2"
    assert cells[ours + 8] == "BLEU4 = 8.17, 37.2/12.4/4.9/2.0 (BP=1.000)"
    assert cells[other + 8] == "none"
    assert sum("fairseq-train" in cell for cell in cells) == 3


def test_sampling(data, tmp_path):
    """There is no alpha to show; all else is there."""
    train(SAMPLING, data, tmp_path, *LOGGING)
    page, _ = page_of(tmp_path, tmp_path / "checkpoints")
    text = " ".join(page.cells)
    assert page.tags.count("svg") == 1 and "uniform_sampling" in text
    assert "dartsformer-derive" not in text and page.facts["updates"] == "8of 8"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (SEARCH, "--clip-norm 0.5 --update-freq 2 --arch-fraction 0.3 --no-epoch-checkpoints"),
        (
            SEARCH,
            "--hidden-dim 48 --ffn-dim 40 --share-all-embeddings --arch dartsformer_search_tiny",
        ),
        (DARTS, "--seed 7 --adam-betas (0.8,0.9)"),
        (SAMPLING, "--max-tokens 300 --patience 3 --keep-last-epochs 2"),
        (DERIVED, "--backprop reconstruct"),
    ],
    ids=["search", "sizes", "darts", "sampling", "derived"],
)
def test_command_repeats_the_training(data, tmp_path, kind, given):
    """fairseq makes of the command what it made of the original one."""
    train(kind, data, tmp_path, *given.split(), *"--max-update 2 --log-interval 7".split())
    cfg = raw(tmp_path)["cfg"]
    found = training_options(cfg)
    words = [word for pair in found.items() for word in pair if word is not None]
    parser = options.get_training_parser()
    again = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, [str(data), *words]))
    for group in (
        "task",
        "optimizer",
        "lr_scheduler",
        "criterion",
        "optimization",
        "dataset",
        "checkpoint",
        "common",
        "distributed_training",
    ):
        left = OF_PROCESS | {"distributed_init_method", "_name"}
        for key in set(cfg[group]) - left:
            assert again[group][key] == cfg[group][key], f"{group}.{key}"
    # The genotype stands as its text, in place of its file's name.
    assert {k: v for k, v in again.model.items() if k in cfg["model"]} == cfg["model"]
    assert command_line(str(data), found).startswith(f"fairseq-train {data} \\\n  --task ")
    usual = {"--seed", "--max-tokens", "--weight-decay"}
    assert all(option in given for option in usual & found.keys())


def test_durations():
    times = (None, 3, 59.6, 90, 599.4, 599.6, 3600 * 3.1, 86400 * 2.5)
    assert [duration(s) for s in times] == [
        *("unknown", "3 s", "1 min 0 s", "1 min 30 s", "9 min 59 s", "10 min"),
        *("3 h 6 min", "2 d 12 h"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("no", "no: is not a folder"),
        ("empty", "empty: holds no checkpoint: expected checkpoint*.pt files"),
        ("foreign", "foreign/checkpoint_last.pt: is a transformer model's checkpoint"),
        (
            "damaged",
            "checkpoint damaged/checkpoint_last.pt is damaged, truncated, or not fairseq's",
        ),
        ("good --log no", "--log no: cannot be read: No such file"),
        ("good --log good/empty.log", "--log good/empty.log: holds no statistics"),
        ("good --retrained empty", "empty: holds no checkpoint"),
        ("good --retrained damaged", "checkpoint damaged/checkpoint_last.pt is damaged"),
        ("good -o no/report.html", "-o no/report.html: there is no folder no"),
        ("good --log good/empty.log -o good/empty.log", "-o good/empty.log: would overwrite"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, arguments, message):
    for name in ("empty", "foreign", "damaged", "good"):
        (tmp_path / name).mkdir()
    torch.save(search_state(), tmp_path / "good/checkpoint_last.pt")
    torch.save(search_state(_name="transformer"), tmp_path / "foreign/checkpoint_last.pt")
    (tmp_path / "damaged/checkpoint_last.pt").write_bytes(b"none")
    (tmp_path / "good/empty.log").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dartsformer-report", *arguments.split()])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        command.cli_main()
    captured = capsys.readouterr()
    assert stop.value.code == 1 and captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"dartsformer-report: error: {message}")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bare_checkpoint_is_enough(tmp_path):
    """One that says nothing of time, losses or options."""
    torch.save(search_state(), tmp_path / "checkpoint_last.pt")
    page, _ = page_of(tmp_path, tmp_path)
    assert page.facts["time"].startswith("unknown") and page.facts["cost"] == "unknown"
    assert page.facts["validation"] == "unknown" and page.tags.count("svg") == 5


def test_no_validation_where_none_was_wanted(tmp_path):
    state = search_state()
    state["cfg"]["dataset"] = {"disable_validation": True}
    torch.save(state, tmp_path / "checkpoint_last.pt")
    page, _ = page_of(tmp_path, tmp_path)
    assert page.facts["validation"] == "none"


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [360, 1200])
def test_no_sideways_scrolling(search, tmp_path, width):
    """Wide tables and figures scroll within the page, not with it."""
    _, html = page_of(tmp_path, search / "checkpoints")
    measure = (
        "<script>document.title=[document.documentElement.scrollWidth,innerWidth].join()</script>"
    )
    framed = tmp_path / "framed.html"
    framed.write_text(html.replace("</body>", f"{measure}</body>"))
    # Windows of less than 500 pixels there are not: the page is within a frame of that width.
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<iframe src="framed.html" width="{width}" height="800" style="border:0"></iframe>'
        "<script>onload=()=>document.title=frames[0].document.title</script>"
    )
    dumped = browse("--dump-dom", "--allow-file-access-from-files", outer.as_uri())
    needed, given = map(int, re.search(r"<title>(\d+),(\d+)</title>", dumped).groups())
    assert given == width and needed <= given


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_prints(search, tmp_path):
    page_of(tmp_path, search / "checkpoints")
    output = tmp_path / "report.pdf"
    browse(f"--print-to-pdf={output}", (tmp_path / "report.html").as_uri())
    assert output.read_bytes().startswith(b"%PDF")


def browse(*arguments: str) -> str:
    flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage".split()
    done = subprocess.run(
        [BROWSER, *flags, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout
