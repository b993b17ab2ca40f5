"""Tables of latencies that searches and measurements refuse, each with one line."""

import json

import pytest
from helpers.latency_tables import DARTS_NETWORK, NETWORK, TINY, latency_table

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.latency.measurement import Bench, Translation
from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.search_space.latency_table import LatencyTable


def changed(**fields) -> dict:
    return json.loads(latency_table().to_json()) | fields


TABLES = {
    "good": changed(),
    "wide": changed(network=NETWORK | {"hidden_dim": 48}),
    "other": changed(network=DARTS_NETWORK),
    "large": changed(vocabulary=50),
    "poor": changed(
        operations={s: {"zero": 0, "ffn": 1} for s in ("encoder", "decoder")},
    ),
    "list": [1],
    "short": {"version": 1},
    "new": changed(version=2),
    "odd": changed(fixed={"encoder": 1}),
    "text": changed(beam="5"),
    "word": changed(operations={"encoder": {"ffn": "fast"}, "decoder": {}}),
    "sizes": changed(network={"family": "dartsformer"}),
    "size": changed(network=NETWORK | {"ffn_dim": 0}),
    "family": changed(network=NETWORK | {"family": "rnn"}),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The folder of the tables, and of one that is not JSON."""
    folder = tmp_path_factory.mktemp("tables")
    for name, content in TABLES.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "cut").write_text(json.dumps(TABLES["good"])[:-9])
    return folder


SEARCHES = [
    ("latency:1", "", "^--latency-table is missing"),
    ("latency:1", "--latency-table good", "^--latency-target is missing"),
    ("latency:1", "--latency-target 9", "^--latency-table is missing"),
    ("beta:1", "--latency-target 9", "^--latency-target is 9.0: it needs --arch-penalty latency"),
    ("beta:1", "--latency-table good", "^--latency-table is .*good: it needs --arch-penalty late"),
    *(
        ("latency:1", f"--latency-table good --latency-target {target}", "^--latency-target is")
        for target in ("0", "-1", "nan", "inf", "4.4", "5 --derive-exclude zero", "21")
    ),
    *(
        ("latency:1", f"--latency-table {name} --latency-target 9", f"^latency table .*{pattern}")
        for name, pattern in {
            "no": "no: there is no such file",
            "wide": "wide: is of --hidden-dim 48, but here it is 24: measure a table of the same",
            "other": "other: is of family darts_transformer, but here it is dartsformer",
            "large": "large: is of --vocabulary 50, but here it is 48",
            "poor": "poor: has no conv_3 in the encoder, only zero, ffn: measure it",
            "cut": "cut: not JSON",
            "list": r"list: has \[1\]: expected beam, device",
            "short": "short: has version: expected beam",
            "new": "new: version is 2: expected 1",
            "odd": "odd: fixed is .*: expected milliseconds of encoder, decoder",
            "text": "text: beam is '5': expected a positive integer",
            "word": "word: operations of the encoder is .*: expected milliseconds",
            "sizes": "sizes: network has family: ",
            "size": "size: ffn_dim is 0: expected a positive integer",
            "family": "family: network is .*: expected sizes, and a family: dartsformer or darts",
        }.items()
    ),
]


@pytest.mark.parametrize(("penalty", "options", "message"), SEARCHES)
def test_searches_are_refused(tables, monkeypatch, penalty, options, message):
    monkeypatch.chdir(tables)
    arguments = f"{TINY} --max-update 9 --arch-penalty {penalty} {options}"
    arguments = arguments.replace("-target -1", "-target=-1").split()
    with pytest.raises(InputError, match=message):
        Training(training_config("dartsformer_search", arguments), 48)


def test_fitting_table_is_taken(tables):
    arguments = [*TINY.split(), "--arch-penalty", "latency:1", "--latency-target", "4.5"]
    arguments += ["--latency-table", str(tables / "good")]
    Training(training_config("dartsformer_search", arguments), 48)


def test_table_of_another_device_is_not_compared(tables):
    timed = Bench(training_config("dartsformer_search", TINY.split()), 48, Translation())
    with pytest.raises(InputError, match="device is none, but here it is"):
        timed.compare(LatencyTable.load(tables / "good"))
    other = latency_table(device=timed.describe(), length=21)
    with pytest.raises(InputError, match="length is 21, but here it is 20"):
        timed.compare(other)
    assert timed.compare(latency_table(device=timed.describe())) is None


@pytest.mark.parametrize("learned", ["", "--decoder-learned-pos"])
def test_sentences_longer_than_the_model_takes_are_refused(learned):
    options = [*TINY.split(), "--max-target-positions", "19", *learned.split()]
    with pytest.raises(InputError, match="--length is 20, it must be at most 19"):
        Bench(training_config("dartsformer_search", options), 48, Translation())
