"""Writes golden.bin.gz and toys.bin.gz: ids (and some decoded texts) by the sentencepiece wheel.

    pip install -r requirements.txt && python make.py SPIECE_MODEL_OF_THE_MINIATURE

golden.bin.gz holds 10,000 strings encoded by two models, mini.model.gz (a copy of the argument) and web.model.gz (see
train.py). toys.bin.gz holds 300 random small models that use every option (user-defined and unused pieces, byte fallback,
white-space switches, tied scores) with 40 strings each, behind 400 models that show how scores are rounded.

Both are sequences of unsigned LEB128 numbers and length-prefixed byte strings:
golden: count, then per string: text, per model: ids, and for every tenth string the decoded ids; toys: count, then per
model: bytes, count, then per string: text, ids, decoded.
"""
import gzip, random, sys
import numpy as np
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb

WORDS = """a the an large small tiny red green blue yellow purple orange white black grey ring square circle star triangle above below left right
of on in background photo painting style cat dog house with and two three 4k highly detailed, trending artstation cinematic lighting
Portrait, masterpiece; ultra-realistic! (octane) "quoted" don't it's e.g. 8:1 1920x1080 #tag @user http://example.com/a?b=c&d=1 foo_bar
naïve café Straße Ünïcödé façade señor Łódź İstanbul ﬁne ﬃ ½ ² ™ ① ㎏ Ⅷ … — – ‘single’ “double” ｆｕｌｌｗｉｄｔｈ ｶﾀｶﾅ ガ""".split()
SPECIAL = ["</s>", "<pad>", "<unk>", "<s>", "<extra_id_0>", "<extra_id_99>", "▁", "▁▁a", " ", "\u200b", "\u00a0", "\u3000", "\ufeff", "\u2028",
           "\u00ad", "\u200d", "\u202e", "\u0085", "\x00", "\x01", "\x1f", "\x7f", "\t", "\n", "\r\n", "\x0b", "\x0c", "\ufffd", "\ufffe"]
RANGES = [(0x20, 0x7f), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xe80), (0x1100, 0x1200), (0x1e00, 0x2000),
          (0x2000, 0x2c00), (0x3000, 0x3400), (0x4e00, 0x9fff), (0xa960, 0xd7ff), (0xf900, 0xfb00), (0xfb00, 0x10000), (0x1d400, 0x1d800),
          (0x1f000, 0x1fb00), (0x20000, 0x2fa20), (0xe0000, 0xe0200), (0x0, 0x20), (0x80, 0xa0), (0, 0x110000)]


def char(r):
    while True:
        c = r.randrange(*r.choice(RANGES))
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def text(r, i):
    kind = i % 12
    if kind < 4:  # prompts
        s = " ".join(r.choice(WORDS) for _ in range(r.randrange(1, 16)))
        return (s if kind < 2 else s.upper() if kind == 2 else s.title()).encode()
    if kind == 4:  # words with odd separators and specials
        return "".join(r.choice(WORDS) + r.choice([" ", "  ", "\t", "\n", "   ", "\u3000", "\u00a0", ""] + SPECIAL) for _ in range(r.randrange(1, 8))).encode()
    if kind == 5:
        return "".join(r.choice(SPECIAL) for _ in range(r.randrange(0, 6))).encode()
    if kind == 6:  # one script
        lo, hi = r.choice(RANGES)
        return "".join(chr(c) for c in (r.randrange(lo, hi) for _ in range(r.randrange(1, 16))) if not 0xd800 <= c < 0xe000).encode()
    if kind == 7:
        return "".join(char(r) for _ in range(r.randrange(1, 12))).encode()
    if kind == 8:  # combining marks
        return "".join(r.choice("aeiouAEn가각ㄱ") + "".join(chr(r.randrange(0x300, 0x370)) for _ in range(r.randrange(0, 4))) for _ in range(r.randrange(1, 8))).encode()
    if kind == 9:  # Hangul jamo, Arabic forms, emoji sequences
        return "".join(r.choice([chr(r.randrange(0x1100, 0x1200)), chr(r.randrange(0xac00, 0xd7a4)), chr(r.randrange(0xfe70, 0xfeff)),
                                 chr(r.randrange(0x1f300, 0x1f650)) + "\u200d", "\ufe0f", " "]) for _ in range(r.randrange(1, 14))).encode()
    if kind == 10:  # random bytes
        return bytes(r.randrange(256) for _ in range(r.randrange(0, 16)))
    b = bytearray(" ".join(r.choice(WORDS) for _ in range(r.randrange(1, 8))).encode())  # broken UTF-8
    for _ in range(r.randrange(1, 4)):
        j = r.randrange(len(b))
        if r.random() < 0.5:
            b[j] = r.randrange(256)
        elif len(b) > 1:
            del b[j]
    return bytes(b)


def num(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def blob(b):
    return num(len(b)) + b


def ids(v):
    return num(len(v)) + b"".join(num(x) for x in v)


def decode(sp, v):
    return sp.decode(v).encode() if v else b""


def write(name, parts):
    with gzip.GzipFile(name, "wb", mtime=0) as f:
        f.write(b"".join(parts))


def golden(models):
    r = random.Random(1)
    texts = [b"", b" ", b"   ", b"\n", "▁".encode(), b"a" * 3000, (" ".join(WORDS) * 20).encode(), ("字" * 1000).encode(), b"\xff" * 500, b" x" * 1000]
    texts += [text(r, i) for i in range(10000 - len(texts))]
    parts = [num(len(texts))]
    for i, t in enumerate(texts):
        parts.append(blob(t))
        for sp in models:
            v = sp.encode(t)
            parts.append(ids(v))
            if i % 10 == 0:
                parts.append(blob(decode(sp, v)))
    write("golden.bin.gz", parts)


def toy(r):
    m = pb.ModelProto()
    t, n = m.trainer_spec, m.normalizer_spec
    t.model_type = 1
    t.byte_fallback = r.random() < 0.3
    t.treat_whitespace_as_suffix = r.random() < 0.2
    n.add_dummy_prefix = r.random() < 0.7
    n.remove_extra_whitespaces = r.random() < 0.7
    n.escape_whitespaces = r.random() < 0.8
    alphabet = ["a", "b", "c", "▁", " ", "é", "字"]
    P = pb.ModelProto.SentencePiece
    entries = [("<unk>", P.UNKNOWN), ("</s>", P.CONTROL), ("<pad>", P.CONTROL)]
    if t.byte_fallback:
        entries += [(f"<0x{c:02X}>", P.BYTE) for c in range(256)]
    seen = set()
    for _ in range(r.randrange(4, 40)):
        p = "".join(r.choice(alphabet) for _ in range(r.randrange(1, 5)))
        if p not in seen:
            seen.add(p)
            entries.append((p, r.choices([P.NORMAL, P.USER_DEFINED, P.UNUSED], [8, 1, 1])[0]))
    if not any(k == P.NORMAL for _, k in entries):
        entries.append(("zz", P.NORMAL))
    r.shuffle(entries)
    scale = r.choice([0.1, 0.25, 1.0, 1e-4, 1000.0])
    for p, k in entries:
        q = m.pieces.add()
        q.piece, q.type = p, k
        if k == P.NORMAL:
            q.score = r.choice([-1, -2, -3, 1, -r.random() * 5]) * scale
    return m.SerializeToString()


def rounding(r):
    """p, a user-defined symbol U, and the piece pU with a score at or just below the sum of theirs: shows every rounding."""
    m = pb.ModelProto()
    m.trainer_spec.model_type = 1
    m.normalizer_spec.add_dummy_prefix = m.normalizer_spec.remove_extra_whitespaces = False
    n = r.choice([1, 2, 3, 4, 7, 8, 10, 12, 14, 19, 22])
    u = "ABCDEFGHIJKLMNOPQRSTUVWX"[:n]
    f = np.float32(r.uniform(-2, 2))
    sums = [f + np.float32(0.1 * (n - 1)), np.float32(float(f) + 0.1 * (n - 1)), f + np.float32(n - 1) * np.float32(0.1)]
    s = r.choice(sums)
    s = r.choice([s, np.nextafter(s, np.float32(-9))])
    for piece, score, kind in [("<unk>", 0, 2), ("</s>", 0, 3), ("p", f, 1), (u, 0, 4), ("p" + u, s, 1)]:
        q = m.pieces.add()
        q.piece, q.score, q.type = piece, float(score), kind
    return m.SerializeToString(), ("p" + u + "p").encode()


def toys():
    r = random.Random(2)
    parts = [num(700)]
    for _ in range(400):
        m, t = rounding(r)
        sp = spm.SentencePieceProcessor(model_proto=m)
        v = sp.encode(t)
        parts += [blob(m), num(1), blob(t), ids(v), blob(decode(sp, v))]
    for _ in range(300):
        m = toy(r)
        sp = spm.SentencePieceProcessor(model_proto=m)
        parts += [blob(m), num(40)]
        for _ in range(40):
            s = "".join(r.choice(["a", "b", "c", "a", "b", " ", "  ", "▁", "é", "字", "x", "</s>", "<0x41>"]) for _ in range(r.randrange(0, 14)))
            if r.random() < 0.05:
                s *= 40
            t = s.encode() + (b"\xe5" if r.random() < 0.05 else b"")
            v = sp.encode(t)
            parts += [blob(t), ids(v), blob(decode(sp, v))]
    write("toys.bin.gz", parts)


if __name__ == "__main__":
    mini = open(sys.argv[1], "rb").read()
    with gzip.GzipFile("mini.model.gz", "wb", mtime=0) as f:
        f.write(mini)
    golden([spm.SentencePieceProcessor(model_proto=m) for m in (mini, gzip.open("web.model.gz").read())])
    toys()
