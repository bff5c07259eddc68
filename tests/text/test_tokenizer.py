"""The tokenizer: one token a word, whatever the words; the same ids after the road through a folder."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from leadline.data.captions import NUMBERS
from leadline.errors import LeadlineError
from leadline.text.tokenizer import END, START, build_tokenizer, symbols_of, token_ids, word_merges, words_of

CAPTIONS = [f"a handwritten {number}" for number in NUMBERS]


def test_words_are_split_as_clip_splits_them() -> None:
    assert words_of(["A man's tie, 12", "a tie"]) == ["'s", ",", "1", "2", "a", "man", "tie"]


def test_merges_of_a_known_case() -> None:
    """she: s h, then sh e</w>; the is its own; hers falls to pieces that its letters give."""
    assert word_merges(["she"]) == [("s", "h"), ("sh", "e</w>")]
    ranks = {("h", "e"): 0, ("s", "he"): 1}
    assert symbols_of("shes", ranks) == ["she", "s</w>"]
    assert symbols_of("hehe", {("h", "e"): 0}) == ["he", "h", "e</w>"]


def test_every_word_is_one_symbol_even_where_rules_cross() -> None:
    """ "posing" begins with what "si" would take apart."""
    words = ["sip", "is", "posing", "sing", "ingot", "nosing", "aaaa", "aaa", "a"]
    merges = word_merges(words)
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    assert len(ranks) == len(merges)
    assert [symbols_of(word, ranks) for word in words] == [[word + "</w>"] for word in words]


def test_each_word_is_one_token_between_two_marks() -> None:
    tokenizer = build_tokenizer([*CAPTIONS, "posing sip, nosing"], 16)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("A handwritten SIX").input_ids)
    assert tokens == [START, "a</w>", "handwritten</w>", "six</w>", END]
    assert len(tokenizer("posing sip, nosing").input_ids) == 6


def test_our_rules_are_the_librarys() -> None:
    tokenizer = build_tokenizer(CAPTIONS, 16)
    ranks = {pair: rank for rank, pair in enumerate(word_merges(words_of(CAPTIONS)))}
    for word in ("unwritten", "sixteen", "onion", "nines", "hand"):
        assert tokenizer.tokenize(word) == symbols_of(word, ranks)


def test_any_text_has_tokens_and_all_texts_one_length() -> None:
    tokenizer = build_tokenizer(CAPTIONS, 8)
    ids = token_ids(tokenizer, ["", "a handwritten six", "日本 é", "an actress on a very long red carpet"])
    assert {len(row) for row in ids} == {8}
    assert ids[0] == [tokenizer.bos_token_id] + 7 * [tokenizer.eos_token_id]
    assert all(0 <= number < len(tokenizer) for row in ids for number in row)
    assert len({tuple(row) for row in ids}) == 4


def test_the_ids_are_the_same_after_saving(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(CAPTIONS, 8)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    texts = [*CAPTIONS, "", "an actress", "é"]
    assert token_ids(again, texts) == token_ids(tokenizer, texts)
    assert again.model_max_length == 8


def test_captions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LeadlineError, match=r"'a handwritten one' has 5 tokens, .* takes 4: --set text.tokens=5"):
        build_tokenizer(["a one", "a handwritten one"], 4)
    with pytest.raises(LeadlineError, match="expected in ASCII, not 'ein schöner Tag'"):
        build_tokenizer(["ein schöner Tag"], 16)
