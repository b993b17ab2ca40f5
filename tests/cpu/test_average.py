"""`dartsformer-average`: means, types, tied weights, and input that it refuses."""

import sys
from pathlib import Path

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu

from fairseq_dartsformer.cli import average as command
from fairseq_dartsformer.errors import InputError


def state(seed=0, dtype=torch.float32, **model):
    """A checkpoint in fairseq's layout, with tied embeddings and an integer buffer."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(7, 4, generator=generator).to(dtype)
    return {
        "args": None,
        "cfg": {"model": {"_name": "transformer"}, "task": {"_name": "translation"}},
        "model": {
            "encoder.embed_tokens.weight": embedding,
            "decoder.embed_tokens.weight": embedding,
            "decoder.bias": torch.randn(4, generator=generator).to(dtype),
            "decoder.version": torch.tensor([seed]),
        }
        | model,
        "criterion": None,
        "optimizer_history": [
            {"num_updates": seed, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}
        ],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": seed}},
        "last_optimizer_state": {"state": {0: torch.ones(100)}},
    }


def saved(folder, *states):
    paths = [str(folder / f"checkpoint{n + 1}.pt") for n in range(len(states))]
    for path, content in zip(paths, states, strict=True):
        torch.save(content, path)
    return paths


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["dartsformer-average", *map(str, arguments)])
    command.cli_main()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 3])
def test_mean_of_the_weights(tmp_path, count, dtype):
    states = [state(seed, dtype) for seed in range(count)]
    model = command.average(saved(tmp_path, *states))["model"]
    for name, value in model.items():
        values = [s["model"][name] for s in states]
        if value.is_floating_point():
            expected = torch.stack([v.double() for v in values]).mean(0).to(dtype)
            torch.testing.assert_close(value, expected, check_dtype=True)
        else:
            assert torch.equal(value, values[-1])


def test_sums_of_half_precision_do_not_overflow(tmp_path):
    large = state(0, torch.float16, **{"decoder.bias": torch.full((4,), 6e4).half()})
    assert torch.equal(
        command.average(saved(tmp_path, large, large))["model"]["decoder.bias"],
        large["model"]["decoder.bias"],
    )


def test_the_rest_is_the_last_ones_without_its_optimizer(tmp_path):
    states = [state(seed) for seed in range(3)]
    result = command.average(saved(tmp_path, *states))
    for kept in ("args", "cfg", "criterion", "optimizer_history", "task_state", "extra_state"):
        assert result[kept] == states[-1][kept]
    assert "last_optimizer_state" not in result


def test_tied_weights_stay_tied_where_they_agree(tmp_path):
    tied, untied = state(0), state(1)
    encoder, decoder = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
    model = command.average(saved(tmp_path, tied, untied))["model"]
    assert model[encoder].data_ptr() == model[decoder].data_ptr()
    untied["model"][encoder] = torch.zeros(7, 4)
    model = command.average(saved(tmp_path, untied, tied))["model"]
    torch.testing.assert_close(model[encoder], tied["model"][encoder] / 2)
    assert not torch.equal(model[encoder], model[decoder])


def test_command_writes_what_fairseq_loads(tmp_path, monkeypatch):
    paths = saved(tmp_path, state(0), state(1), state(2))
    output = tmp_path / "average.pt"
    for arguments, averaged in ((paths, paths), ([tmp_path, "--last", 2], paths[1:])):
        run(monkeypatch, *arguments, "-o", output)
        loaded = load_checkpoint_to_cpu(str(output))
        assert loaded["cfg"]["model"]["_name"] == "transformer"
        expected = command.average(averaged)["model"]
        assert all(torch.equal(loaded["model"][name], value) for name, value in expected.items())
        assert len(list(tmp_path.iterdir())) == 4


def test_the_same_average_is_the_same_file(tmp_path, monkeypatch):
    """Its name and the process do not matter."""
    paths = saved(tmp_path, state(1), state(2))
    files = [tmp_path / name for name in ("one.pt", "other.pt")]
    for file in files:
        run(monkeypatch, *paths, "-o", file)
        monkeypatch.setattr("os.getpid", lambda: 1234567)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["checkpoint2.pt", "checkpoint10.pt", "checkpoint9.pt"], ["9", "10"]),
        (["checkpoint5.pt", "checkpoint_1_900.pt", "checkpoint_2_1000.pt"], ["_1_900", "_2_1000"]),
    ],
)
def test_last_checkpoints_by_number(tmp_path, names, expected):
    for name in [*names, "checkpoint_best.pt", "checkpoint_last.pt", "checkpoint99.pt.tmp"]:
        (tmp_path / name).touch()
    found = command.last_checkpoints(str(tmp_path), 2)
    assert [Path(path).stem.removeprefix("checkpoint") for path in found] == expected
    with pytest.raises(InputError, match=r"--last 9: .* has [0-9] checkpoints"):
        command.last_checkpoints(str(tmp_path), 9)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    paths = saved(tmp_path, state(0), state(1))
    output = tmp_path / "average.pt"
    output.write_bytes(b"old")

    def full(content, file):
        file.write(b"half")
        raise RuntimeError("disk full")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit):
        run(monkeypatch, *paths, "-o", output)
    assert output.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 3
