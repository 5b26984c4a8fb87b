"""The miniature CLIP's byte-level BPE (one token per grammar word), and its use beside the sentencepiece model."""
import argparse
import json
import pathlib

import numpy as np

from tokenizer import MADE_UP, VOCABULARY, WORDS

LENGTH = 77  # positions of a CLIP text encoder
# Tokens of bytes that no caption has: they stand for the made-up words. Byte tokens come in GPT-2's order, whose
# first 94 are the printable ASCII characters.
FIRST_UNUSED = 94
CONFIG = {
    "add_prefix_space": False, "bos_token": "<|startoftext|>", "do_lower_case": True, "eos_token": "<|endoftext|>",
    "errors": "replace", "model_max_length": LENGTH, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer",
    "unk_token": "<|endoftext|>",
}


def byte_symbols():
    """GPT-2's 256 symbols, one per byte, in the order of their ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + k) for k in range(len(others))]


def merges():
    """Merges that leave every grammar word one token, commonest pair first, as BPE learns them."""
    words = {tuple(w[:-1]) + (w[-1] + "</w>",) for w in WORDS}
    out = []
    while True:
        counts = {}
        for word in sorted(words):
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            return out
        best = max(sorted(counts), key=counts.get)
        out.append(best)
        words = {merged(w, best) for w in words}


def merged(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def train(folder):
    """Writes vocab.json, merges.txt and the configuration of a CLIPTokenizer into folder."""
    symbols, rules = byte_symbols(), merges()
    tokens = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in rules]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    if len(set(tokens)) != len(tokens):
        raise SystemExit("two merges make the same token")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in rules))
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


class Translation:
    """Turns rows of sentencepiece ids into rows of CLIP ids: begin, the words, end; padded with end tokens.

    Captions of the training set are kept as sentencepiece ids, some of them made-up words, which no text has.
    """

    def __init__(self, folder, pieces):
        vocabulary = json.loads((pathlib.Path(folder) / "vocab.json").read_text())
        self.size = len(vocabulary)
        self.begin, self.end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
        self.table = np.full(VOCABULARY, self.end)  # padding and the end token too
        for word in [*WORDS, ","]:
            ids = pieces.model.encode(word)
            piece = ids[-1]
            self.table[piece] = vocabulary[word + "</w>"]
        self.table[MADE_UP:] = FIRST_UNUSED + np.arange(VOCABULARY - MADE_UP)

    def __call__(self, rows):
        """int [count, L] to int64 [count, 1 + L]."""
        return np.concatenate((np.full((len(rows), 1), self.begin), self.table[rows]), 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where vocab.json and merges.txt go")
    train(parser.parse_args().folder)
