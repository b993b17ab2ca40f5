"""Compare the planned peak memory of a search on a CPU with that of a real ``fairseq-train``.

usage: python tests/long/resident_memory.py [--hidden-dim D] [--updates N] [--set NAME=VALUE ...]

Prints both peaks, the peak of a process that only imports fairseq, and the search's processor time.
Exits with status 1 if the search holds more than the import, 1.1 times the plan, and 0.3 GB for
what libraries load and allocate in the first update.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import fairseq_dartsformer
from fairseq_dartsformer.memory.planner import plan_memory, training_config

PLUGIN = Path(fairseq_dartsformer.__file__).parent
WORDS, LENGTH, TOKENS = 4200, 50, 5000


def prepare(folder: Path) -> Path:
    """Binarise sentences of random words, all of equal length."""
    generator = random.Random(1)
    words = [f"w{i}" for i in range(WORDS)]
    for language in ("aa", "bb"):
        lines = [" ".join(generator.choices(words, k=LENGTH - 1)) for _ in range(2000)]
        lines[0] = " ".join(words)  # fills the dictionary; too long to train on
        (folder / f"train.{language}").write_text("\n".join(lines) + "\n")
    command = "fairseq-preprocess --source-lang aa --target-lang bb --joined-dictionary --workers 1"
    paths = ["--trainpref", str(folder / "train"), "--destdir", str(folder / "data")]
    subprocess.run([*command.split(), *paths], check=True, stdout=subprocess.DEVNULL)
    return folder / "data"


def resources(command: list[str], environment: dict[str, str]) -> tuple[int, float, float]:
    """Run a command; return its resident peak in bytes, and its user and system seconds."""
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(errors.decode())
    return used.ru_maxrss * 1024, used.ru_utime, used.ru_stime


def main() -> None:
    """Train, plan, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hidden-dim", default="480", help="d (480)")
    parser.add_argument("--updates", default="2", help="of the search, of both levels (2)")
    parser.add_argument("--set", nargs="*", default=[], help="environment variables")
    args = parser.parse_args()
    environment = dict(setting.split("=", 1) for setting in args.set)
    model = f"--embed-dim 256 --hidden-dim {args.hidden_dim} --share-all-embeddings".split()
    arch = "dartsformer_search"
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(Path(folder))
        command = ["fairseq-train", str(data), "--user-dir", str(PLUGIN), "--arch", arch, *model]
        command += f"--task translation_search --optimizer bilevel_adam --lr 5e-4 --cpu \
            --criterion chunked_label_smoothed_cross_entropy --label-smoothing 0.1 --dropout 0.1 \
            --max-tokens {TOKENS} --max-tokens-valid {TOKENS} --max-update {args.updates} \
            --skip-invalid-size-inputs-valid-test --max-source-positions 100 \
            --max-target-positions 100 --no-save --disable-validation --num-workers 0".split()
        peak, user, system = resources(command, environment)
    idle, *_ = resources(
        [sys.executable, "-c", "import fairseq_cli.train, fairseq_dartsformer"], {}
    )
    sizes = model + "--max-source-positions 100 --max-target-positions 100".split()
    plan = plan_memory(training_config(arch, sizes), WORDS + 4, TOKENS // LENGTH, LENGTH).total
    print(
        f"planned {plan / 1e9:.2f} GB, resident {peak / 1e9:.2f} GB, of which an idle interpreter "
        f"has {idle / 1e9:.2f} GB; {user:.0f} s of user and {system:.0f} s of system time"
    )
    sys.exit(peak > idle + 1.1 * plan + 0.3e9)


if __name__ == "__main__":
    main()
