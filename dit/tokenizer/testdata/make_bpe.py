"""Writes bpe.json.gz (tokenizer.json, without what a CLIP tokenizer does not say there), and bpe.bin.gz: ids by transformers' CLIPTokenizer.

    pip install -r requirements.txt && python make_bpe.py [COUNT FILE]

The vocabulary is learned from the text of train.py; another Python version gives another one. bpe.bin.gz holds 10,000 strings (text, ids with
begin and end, cut to 77) in the format of make.py; with COUNT and FILE, so many go there and nothing else is written.
"""
import gzip, json, os, random, sys, tempfile
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

import make, train

BEGIN, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
MARKS = [BEGIN, END, BEGIN.upper(), END.title(), "<|", "|>", "</w>", "'s", "'LL", "''re", "İ", "Σ", "ΑΣ", "x" * 300]


def learn():
    t = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX, continuing_subword_prefix=""))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(train.sentences(), trainers.BpeTrainer(
        vocab_size=5000, initial_alphabet=alphabet, end_of_word_suffix=SUFFIX, show_progress=False))
    merges = [tuple(m) for m in json.loads(t.to_str())["model"]["merges"]]
    tokens = alphabet + [c + SUFFIX for c in alphabet]
    tokens += [a + b for a, b in merges if a + b not in tokens]
    return {x: i for i, x in enumerate(dict.fromkeys(tokens + [BEGIN, END]))}, merges


def text(r, i):
    if i % 8 == 7:
        return "".join(r.choice(MARKS + make.WORDS) + r.choice(["", " ", "!", "3"]) for _ in range(r.randrange(1, 9)))
    return make.text(r, i).decode(errors="replace")


def main():
    if len(sys.argv) < 3:
        vocab, merges = learn()
        with gzip.GzipFile("bpe.json.gz", "wb", mtime=0) as f:
            f.write(json.dumps({"model": {"type": "BPE", "end_of_word_suffix": SUFFIX, "vocab": vocab,
                                          "merges": merges}}, ensure_ascii=False).encode())
    model = json.loads(gzip.open("bpe.json.gz").read())["model"]
    with tempfile.TemporaryDirectory() as d:
        json.dump(model["vocab"], open(os.path.join(d, "vocab.json"), "w"), ensure_ascii=False)
        open(os.path.join(d, "merges.txt"), "w").write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
        t = CLIPTokenizer.from_pretrained(d, model_max_length=77)
    r = random.Random(3)
    count = int(sys.argv[1]) if len(sys.argv) > 2 else 10000
    texts = ["", " ", "\n", "a" * 3000, " ".join(make.WORDS) * 3] + [text(r, i) for i in range(count - 5)]
    parts = [make.num(count)]
    for s in texts:
        parts += [make.blob(s.encode()), make.ids(t(s, truncation=True, max_length=77)["input_ids"])]
    make.write(sys.argv[2] if len(sys.argv) > 2 else "bpe.bin.gz", parts)


if __name__ == "__main__":
    main()
