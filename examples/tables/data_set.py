"""A binarised corpus with the raw text of its test set."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from commands import StepError
from fairseq.data import Dictionary
from scales import ROOT

PLUGIN = str(ROOT / "fairseq_dartsformer")


@dataclass(frozen=True)
class Data:
    """A binarised corpus and the raw reference of its test set.

    Attributes:
        folder: fairseq's binary files.
        reference: raw target text of the test set.
        option: the option that named ``folder``.

    Raises:
        StepError: a file is missing; only ``--data`` needs a test set.
    """

    folder: Path
    reference: Path | None = None
    option: str = "--data"
    languages: tuple[str, str] = field(init=False)

    def __post_init__(self):
        names = [p.name for p in self.folder.glob("train.*-*.*.idx")]
        pairs = {tuple(name.split(".")[1].split("-")) for name in names}
        if len(pairs) != 1:
            raise StepError(
                f"{self.option} {self.folder}: expected one binarised pair of languages"
            )
        object.__setattr__(self, "languages", pairs.pop())
        splits = ("valid", "test") if self.option == "--data" else ("valid",)
        for split in splits:
            if not any(self.folder.glob(f"{split}.{'-'.join(self.languages)}.*.idx")):
                raise StepError(f"{self.option} {self.folder}: has no binarised split '{split}'")
        if self.reference is None:
            text = self.folder.parent / "text" / f"test.{self.languages[1]}"
            object.__setattr__(self, "reference", text)
        if not self.reference.is_file():
            raise StepError(f"--reference: there is no file {self.reference}")

    @cached_property
    def name(self) -> str:
        """Distinguishes runs on data of other folders or other content."""
        checksum = zlib.crc32(str(self.folder.resolve()).encode())
        # The dictionaries count the training set's words.
        for pattern in ("dict.*.txt", "valid.*.idx", "test.*.idx"):
            for path in sorted(self.folder.glob(pattern)):
                checksum = zlib.crc32(path.read_bytes(), checksum)
        return f"{'-'.join(self.languages)}.{checksum:08x}"

    def vocabulary(self) -> int:
        """Number of symbols in the joint dictionary."""
        return len(Dictionary.load(str(self.folder / f"dict.{self.languages[0]}.txt")))

    def arguments(self) -> list[str]:
        """Arguments of fairseq's commands."""
        source, target = self.languages
        folder = str(self.folder.resolve())
        return [folder, "--source-lang", source, "--target-lang", target, "--user-dir", PLUGIN]
