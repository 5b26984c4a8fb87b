"""The miniature's sentencepiece model (unigram, one piece per grammar word) and its use."""
import argparse
import itertools
import pathlib

import numpy as np
import sentencepiece

PAD, EOS = 0, 1
VOCABULARY, MADE_UP = 128, 76  # embedded token ids; the first one that no piece has
LENGTH = 18  # tokens of the longest caption, the end token included

# All words of the grammar; those that scenes.py does not use keep the vocabulary open for richer scenes.
WORDS = """a small tiny little large big red orange yellow green cyan blue purple pink circle square triangle
ring star to the left of right above over below under with its it on background against white black grey beige
brown there is picture""".split()


def train(folder):
    """Writes spiece.model into folder."""
    lines = [f"{w} {w}. {w}; {w}! {w}? {w}, {w}: {w}" for w in WORDS for _ in range(40)]
    lines += [f"{a} {b}" for a, b in itertools.permutations(WORDS, 2)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(pathlib.Path(folder) / "spiece"), model_type="unigram",
        vocab_size=75, hard_vocab_limit=False, pad_id=PAD, eos_id=EOS, unk_id=2, bos_id=-1,
        normalization_rule_name="nmt_nfkc", split_by_unicode_script=False, character_coverage=1.0)
    (pathlib.Path(folder) / "spiece.vocab").unlink(missing_ok=True)


class Tokenizer:
    """Turns captions into rows of LENGTH token ids, ended and padded as T5 does it."""

    def __init__(self, path):
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def __call__(self, captions):
        rows = np.zeros((len(captions), LENGTH), np.int16)
        for row, ids in zip(rows, self.model.encode(list(captions))):
            ids = ids + [EOS]
            if len(ids) > LENGTH:
                raise ValueError(f"a caption has {len(ids)} tokens, more than {LENGTH}")
            row[:len(ids)] = ids
        return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where spiece.model goes")
    args = parser.parse_args()
    pathlib.Path(args.folder).mkdir(parents=True, exist_ok=True)
    train(args.folder)
