# ruff: noqa: RUF001 - that signs look like others is what is tested here.
from __future__ import annotations

import random
import unicodedata
from typing import Any

import ftfy
import numpy as np
import pytest
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

from edgeproof_deploy.runtime.errors import LabelError
from edgeproof_deploy.runtime.text_cleaning import clean_open_clip
from edgeproof_deploy.runtime.tokenizer import LARGEST_TEXT, Tokenizer
from edgeproof_train.dual_tower import Vocabulary

PLAIN = """
a photo of the cat's Dog it's I'LL don't we've RED cube "x" naïve café Straße ΣΊΣΥΦΟΣ Москва
東京 한국어 हिन्दी العربية
ｆｕｌｌ ﬁne ﬀ ĳ ŉ Ǆ ﬅ “quoted” ‘s’ ’s 12,345 3.14 x² --- ... !? < > 'ſ K 'S 'Re ﾊﾟ ① Ⅷ ½ İ ς
👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 👍🏽 ❤️ ☃
<start_of_text> <END_OF_TEXT>
<|endoftext|> &amp; &eacute; &EACUTE; &#233; &#x1F600; &lt;b&gt; &nbsp; &amp;amp;quot; &copy
&rsquo; &#0; &#128;
&NotEqualTilde; &SZLIG; &xyz; &#99999999; &hellip;
"""
CONTROLS = ("\t", "\n", "\r\n", "\x07", "\x1b[31mred\x1b[0m", "\u200b", "\ufeff", "\x85", "\x96")
OTHERS = ("\x1c", "\x81", "e\u0301", "\u2028", "\u3000", "\ud83d\ude00", "\ud83d", "\ude00", "\u0345")
WORDS = (*PLAIN.split(), *CONTROLS, *OTHERS)
ASSIGNED = [
    chr(code)
    for code in range(0x110000)
    if not 0xD800 <= code < 0xE000 and unicodedata.category(chr(code)) != "Cn"
]


def odd_texts(count: int) -> list[str]:
    """Return texts of words, of glued words, of any characters of Unicode, and of Latin ones; some long."""
    draw = random.Random(0)

    def text() -> str:
        kind = draw.random()
        if kind < 0.5:
            return " ".join(draw.choices(WORDS, k=draw.randint(0, 14)))
        if kind < 0.8:
            return "".join(draw.choices(ASSIGNED, k=draw.randint(1, 20)))
        if kind < 0.9:
            return "".join(draw.choices(WORDS, k=draw.randint(0, 150)))
        return "".join(chr(draw.randint(32, 0x2FF)) for _ in range(draw.randint(1, 30)))

    return [text() for _ in range(count)]


@pytest.fixture(scope="module")
def reference() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def tokenizer(reference: SimpleTokenizer) -> Tokenizer:
    return Tokenizer(list(reference.bpe_ranks))


def test_tokenizer__ids_are_those_of_open_clip(tokenizer: Tokenizer, reference: SimpleTokenizer) -> None:
    """On 2,500 odd texts; left out are those that ftfy takes for decoded with the wrong encoding."""
    texts = odd_texts(2500)
    whole = [text for text in texts if ftfy.fix_text(text) == ftfy.fix_text(text, fix_encoding=False)]
    assert len(whole) > 0.97 * len(texts)
    np.testing.assert_array_equal(tokenizer(whole), reference(whole).numpy())
    assert [tokenizer.encode(text) for text in whole[:500]] == [
        reference.encode(text) for text in whole[:500]
    ]


def test_tokenizer__plain_prompts(tokenizer: Tokenizer, reference: SimpleTokenizer) -> None:
    texts = ["", "a photo of a cat.", "A Stop_Sign, 2 of them", "x" * 3000, "word " * 1000]
    rows = tokenizer(texts)
    assert rows.shape == (5, 77)
    assert rows[1].tolist()[:9] == [49406, 320, 1125, 539, 320, 2368, 269, 49407, 0]
    assert (rows[3:, -1] == 49407).all()
    np.testing.assert_array_equal(rows, reference(texts).numpy())
    short = Tokenizer(list(reference.bpe_ranks), context_length=8)
    np.testing.assert_array_equal(short(texts), reference(texts, context_length=8).numpy())


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_tokenizer__splits_at_every_character_as_open_clip(
    tokenizer: Tokenizer, reference: SimpleTokenizer, step: int
) -> None:
    whole = " ".join(f"a{sign}b7{sign}" for sign in ASSIGNED[::step])
    assert list(tokenizer._split(whole)) == reference.pat.findall(whole)


def test_tokenizer__ids_are_those_of_transformers(reference: SimpleTokenizer) -> None:
    merges: list[Any] = list(reference.bpe_ranks)
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {marks.get(symbol, symbol): number for symbol, number in reference.encoder.items()}
    theirs = CLIPTokenizer(vocab=vocabulary, merges=merges)
    ours = Tokenizer(merges, cleaning="transformers", padding=49407)
    texts = [text for text in odd_texts(1500) if not any("\ud800" <= sign < "\ue000" for sign in text)]
    expected = theirs(texts, padding="max_length", truncation=True, max_length=77)["input_ids"]
    np.testing.assert_array_equal(ours(texts), np.array(expected))


def test_tokenizer__few_known_tokens_as_the_small_teacher_numbers_them(reference: SimpleTokenizer) -> None:
    captions = ["a red cube", "a photo of a blue torus"]
    vocabulary, hints = Vocabulary.of(captions, 12), ("torus", "cube")
    ours = Tokenizer(list(reference.bpe_ranks), context_length=12, known=vocabulary.known, hints=hints)
    texts = [*captions, "Blue cube", "red torus of a photo"]
    np.testing.assert_array_equal(ours(texts), vocabulary(texts).numpy())
    with pytest.raises(LabelError, match=r"never read 'torso' \(in 'red torso'\).*has read: torus"):
        ours(["red torso"])
    with pytest.raises(LabelError, match=r"never read '東京'.*has read: cube, torus"):
        ours(["東京"])
    with pytest.raises(LabelError, match="has 14 tokens, at most 12 are read"):
        ours(["a " * 12])


def test_tokenizer__a_text_without_end_is_refused(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("ab" * (LARGEST_TEXT // 2))) > 1000
    with pytest.raises(LabelError, match="a text of 10001 characters, at most 10000 are read"):
        tokenizer.encode("a" * (LARGEST_TEXT + 1))


def test_tokenizer__settings(reference: SimpleTokenizer) -> None:
    with pytest.raises(ValueError, match="cleaning must be one of open_clip, transformers, got 'sentences'"):
        Tokenizer([], cleaning="sentences")
    with pytest.raises(ValueError, match="at least 2, got 1"):
        Tokenizer([], context_length=1)


def test_clean_open_clip__what_was_decoded_wrongly_stays(reference: SimpleTokenizer) -> None:
    assert clean_open_clip("CafÃ© &amp;amp; “Bar”") == 'cafã© & "bar"'
    assert reference.clean_fn("CafÃ© &amp;amp; “Bar”") == 'café & "bar"'


def test_tokenizer__numbers_every_symbol_as_open_clip(
    tokenizer: Tokenizer, reference: SimpleTokenizer
) -> None:
    assert tokenizer.numbers == reference.encoder
