"""The text processing of ``examples/prepare.sh`` as a tokenizer of fairseq."""

import re
from dataclasses import dataclass
from typing import Optional

from fairseq.data.encoders import register_tokenizer
from fairseq.dataclass import FairseqDataclass
from omegaconf import II

from ..errors import InputError, flag

# Control characters that are not white space, and byte-order marks.
INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")


@dataclass
class NormalizedMosesConfig(FairseqDataclass):
    """Languages, by default the task's."""

    source_lang: Optional[str] = II("oc.select:task.source_lang,null")
    target_lang: Optional[str] = II("oc.select:task.target_lang,null")


@register_tokenizer("normalized_moses", dataclass=NormalizedMosesConfig)
class NormalizedMoses:
    """Moses normalisation and tokenisation, with sacremoses' default settings.

    fairseq's ``moses`` does not normalise punctuation, and by default it splits words at hyphens,
    so that a model reads other tokens than those that it was trained on.
    """

    def __init__(self, cfg: NormalizedMosesConfig):
        languages = [cfg.source_lang, cfg.target_lang]
        for name, language in zip(("source_lang", "target_lang"), languages, strict=True):
            if language is None or "$" in language:  # fairseq resolves "${...}" if it has a task
                raise InputError(
                    f"{flag(name)} is missing: the tokenizer normalized_moses needs it (for "
                    "--eval-bleu-detok, in --eval-bleu-detok-args; language modeling tasks have no "
                    "such option: use --tokenizer moses)"
                )
        # Its import reads tables, which take a tenth of the time of the package's import.
        from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

        # Moses has rules for pt, not for pt-BR.
        source, target = (re.split("[-_]", language)[0] for language in languages)
        self.normalizer = MosesPunctNormalizer(source)
        self.tokenizer = MosesTokenizer(source)
        self.detokenizer = MosesDetokenizer(target)

    def encode(self, x: str) -> str:
        """Raw text of the source language to tokens, separated by spaces."""
        line = " ".join(INVISIBLE.sub("", x).split())
        return self.tokenizer.tokenize(self.normalizer.normalize(line), return_str=True)

    def decode(self, x: str) -> str:
        """Tokens of the target language to text."""
        return self.detokenizer.detokenize(x.split())
