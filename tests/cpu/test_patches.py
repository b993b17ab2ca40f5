"""The plugin changes in fairseq and torch only what the table of patches lists."""

import json
import re
import subprocess
import sys
from pathlib import Path

import fairseq_dartsformer
from fairseq_dartsformer.fairseq_patches import PATCHES

PACKAGE = Path(fairseq_dartsformer.__file__).parent
TABLE = PACKAGE.parent / "docs" / "patches.md"
CATEGORIES = {"wrong", "lost", "unsafe", "cannot start"}

# Lists what an import changes: names of modules and attributes of their classes, by identity.
COMPARE = """
import importlib, json, sys, types
import torch, numpy, omegaconf, hydra, fairseq, fairseq.trainer, fairseq.nan_detector
import fairseq.models.distributed_fairseq_model, fairseq.tasks, fairseq.benchmark
for command in ("train", "generate", "interactive", "validate", "preprocess", "hydra_train"):
    importlib.import_module(f"fairseq_cli.{command}")
WATCHED = ("fairseq", "fairseq_cli", "torch", "numpy", "omegaconf", "hydra", "builtins", "sys")

def bindings():
    found, kept = {}, []
    for key, module in list(sys.modules.items()):
        if key.partition(".")[0] not in WATCHED or module is None:
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, types.ModuleType):
                continue  # a submodule that is imported for the first time
            found[f"{key}:{name}"] = value
            if isinstance(value, type) and value.__module__.partition(".")[0] in WATCHED:
                for attribute, inner in list(vars(value).items()):
                    found[f"{value.__module__}:{value.__qualname__}.{attribute}"] = inner
    return found

def is_bookkeeping(name):
    # Python makes an empty dictionary of annotations when it is asked for; torch's set is below.
    return name.endswith((".__annotations__", ":_marked_safe_globals_set"))

before, modules, safe = bindings(), set(sys.modules), torch.serialization.get_safe_globals()
hook = sys.excepthook
import fairseq_dartsformer
after = bindings()
changed = {k for k in before if k not in after or after[k] is not before[k]}
changed |= {k for k in after.keys() - before.keys() if k.partition(":")[0] in modules}
print(json.dumps({
    "changed": sorted(k for k in changed if not is_bookkeeping(k)),
    "safe": sorted({s.__module__ for s in set(torch.serialization.get_safe_globals()) - set(safe)}),
    "hook": sys.excepthook is not hook,
}))
"""


def test_importing_the_plugin_changes_only_what_the_table_lists():
    run = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    # A module under two names: the old one of fairseq's distributed utilities.
    changed = {
        name.replace("fairseq.distributed_utils:", "fairseq.distributed.utils:")
        for name in found["changed"]
    }
    assert changed == {patch.target for patch in PATCHES} | {"sys:excepthook"}
    assert found["hook"]
    assert set(found["safe"]) <= {"argparse", "numpy", "numpy.dtypes", "numpy._core.multiarray"}


def test_there_are_few_patches():
    assert len(PATCHES) <= 25
    files = (PACKAGE / "fairseq_patches").glob("*.py")
    assert sum(len(file.read_text().splitlines()) for file in files) <= 600


def test_documentation_lists_every_patch_with_its_reason():
    expected = []
    for patch in PATCHES:
        reason = " ".join(patch.replacement.__doc__.replace("``", "`").split())
        parts = re.fullmatch(r"Symptom: (.+) Cause: (.+) Can go when (.+)", reason)
        assert parts, f"{patch.target}: {reason}"
        assert patch.category in CATEGORIES
        expected.append((f"`{patch.target}`", patch.category, *parts.groups()))
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| `fairseq")]
    rows = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    assert sorted(rows) == sorted(expected)
