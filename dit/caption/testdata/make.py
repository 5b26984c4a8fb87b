"""Writes golden.json: text.lower().strip() of Python (Unicode 14 in Python 3.11).

    python make.py

lower: every character whose lower case differs from itself, with its lower case; space: all white space; assigned,
ignorable, cased: [first, last] ranges of the assigned characters and of those that a sigma's final form looks past or at;
cases: sigma in context and captions.
"""
import json, random, sys, unicodedata

everything = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]


def ranges(test):
    out = []
    for c in everything:
        if test(c):
            if out and out[-1][1] == ord(c) - 1:
                out[-1][1] += 1
            else:
                out.append([ord(c), ord(c)])
    return out


r = random.Random(1)
alphabet = ["Σ", "Σ", "Σ", "a", "B", "ß", "İ", ".", "'", "’", ":", "·", " ", "\u00ad", "\u0301", "\u0345", "1", "ʰ", "ᾼ", "Ǆ", "字", "\u200d", "😀", "_", "-"]
cases = ["", "  A Small RED Ring\n", "\x1c\x1d Σίσυφος ΣΊΣΥΦΟΣ \x1f\x85\u3000", "İSTANBUL", "\u200b A \u200b", "ΑΣ", "ΑΣ.", "ΑΣ.Α", "Σ"]
cases += ["".join(r.choice(alphabet) for _ in range(r.randrange(1, 12))) for _ in range(2000)]
json.dump({
    "lower": [[c, c.lower()] for c in everything if c.lower() != c],
    "space": "".join(c for c in everything if c.isspace()),
    "assigned": ranges(lambda c: unicodedata.category(c) != "Cn"),
    "ignorable": ranges(lambda c: ("AΣ" + c + "B").lower()[1] == "σ" and ("AΣ" + c).lower()[1] == "ς"),
    "cased": ranges(lambda c: (c + "Σ").lower()[-1] == "ς"),
    "cases": [[s, s.lower().strip()] for s in cases],
}, open("golden.json", "w"), ensure_ascii=False, separators=(",", ":"))
