"""Options that fairseq takes for Python expressions: reading them without running anything."""

from __future__ import annotations

import ast
import sys
from reprlib import repr as shown
from typing import Any

from ..errors import InputError

# Where fairseq calls `eval` on options, which a checkpoint may bring along.
MODULES = (
    "criterions.ctc",
    *("models.fconv", "models.fconv_lm", "models.fconv_self_att", "models.hubert.hubert"),
    *("models.lightconv_lm", "models.transformer_lm", "models.wav2vec.wav2vec"),
    *("models.wav2vec.wav2vec2", "models.speech_to_text.s2t_wav_transformer"),
    *("optim.adafactor", "optim.adam", "optim.adamax", "optim.cpu_adam", "optim.fused_lamb"),
    "utils",
)
# Literals, and arithmetic upon them, as in "[(512, 3, 2)] * 4".
HARMLESS = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Load),
    *(ast.UnaryOp, ast.unaryop, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div),
)
# The last two of what is nested too deeply.
UNREADABLE = (
    *(SyntaxError, ValueError, TypeError, ArithmeticError, AttributeError),
    *(MemoryError, RecursionError),
)


def apply() -> None:
    """Have fairseq's modules find :func:`evaluate` in place of the builtin `eval`.

    Symptom: a checkpoint runs code, though it is loaded safely: as the options of a model or
    criterion whose text fairseq evaluates. Goes when fairseq takes `ast.literal_eval`.
    """
    for name in MODULES:
        module = sys.modules.get(f"fairseq.{name}")
        if module is not None:
            module.eval = evaluate


def evaluate(text: Any) -> Any:
    """The value of a Python expression that calls nothing and looks nothing up.

    Raises:
        InputError: it is none.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        if all(isinstance(node, HARMLESS) for node in ast.walk(tree)):
            return eval(compile(tree, "<option>", "eval"), {"__builtins__": {}})
    except UNREADABLE:
        pass
    raise InputError(
        f"an option, given or from a checkpoint, is {shown(text)}: expected Python's numbers, "
        "text or lists of them, such as (0.9, 0.98)"
    )
