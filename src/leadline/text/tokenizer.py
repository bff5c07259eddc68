"""A CLIP tokenizer whose words are those of the captions, built offline."""

import json
import re
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from leadline.errors import LeadlineError

START, END = "<|startoftext|>", "<|endoftext|>"
LAST = "</w>"
"""What CLIP writes behind the last symbol of a word."""
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")
"""A word of ASCII text in lower case, as CLIP's tokenizer splits it."""


def words_of(captions: Iterable[str]) -> list[str]:
    """The distinct words of the captions, in lower case and alphabetical order. Raises LeadlineError beyond ASCII."""
    distinct = set(captions)
    strange = sorted(caption for caption in distinct if not caption.isascii())
    if strange:
        raise LeadlineError(f"captions are expected in ASCII, not {strange[0]!r}")
    return sorted({word for caption in distinct for word in WORD.findall(caption.lower())})


def symbols_of(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """1508.07909, Alg. 1, applied: the word's characters, merged pair by pair, the pair of the lowest rank first."""
    symbols = [*word[:-1], word[-1] + LAST]
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        best = min(known, key=ranks.__getitem__)
        merged: list[str] = []
        for symbol in symbols:
            if merged and (merged[-1], symbol) == best:
                merged[-1] += symbol
            else:
                merged.append(symbol)
        symbols = merged
    return symbols


def word_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merges for byte-pair encoding (1508.07909), in their order, that make each of the words one symbol.

    A word is merged by the rules that are there, then by new ones from its left. A later rule has a higher rank, so
    the words before it keep their one symbol.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        while len(symbols := symbols_of(word, ranks)) > 1:
            ranks[symbols[0], symbols[1]] = len(ranks)
    return list(ranks)


def build_tokenizer(captions: Iterable[str], length: int) -> Any:
    """transformers' CLIPTokenizer for which each word of the captions is one token, texts of `length` tokens.

    The vocabulary: all 256 bytes, within a word and at its end, so that any text has tokens; the words; the two marks.
    Raises LeadlineError when a caption is longer than that, both marks counted.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    captions = sorted(set(captions))
    merges = word_merges(words_of(captions))
    alphabet = sorted(ByteLevel.alphabet())
    symbols = [*alphabet, *(byte + LAST for byte in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {symbol: number for number, symbol in enumerate(dict.fromkeys(symbols))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=length, **marks)
    longest = max(captions, key=lambda caption: len(tokenizer(caption).input_ids))
    needed = len(tokenizer(longest).input_ids)
    if needed > length:
        raise LeadlineError(
            f"the caption {longest!r} has {needed} tokens, and the text encoder takes {length}: "
            f"--set text.tokens={needed}"
        )
    return tokenizer


def token_ids(tokenizer: Any, captions: list[str]) -> list[list[int]]:
    """The ids of each caption, filled up to the tokenizer's length, as a Stable Diffusion pipeline asks for them."""
    ids: list[list[int]] = tokenizer(captions, padding="max_length", truncation=True).input_ids
    return ids
