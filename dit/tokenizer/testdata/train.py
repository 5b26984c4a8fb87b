"""Trains web.model.gz, a unigram model of 6,000 pieces with T5's settings, on text that any machine has: the docstrings and
comments of Python's standard library and a page of phrases in other scripts.

    pip install -r requirements.txt && python train.py

Another Python version gives another model; the goldens are made for the one that is committed.
"""
import ast, glob, gzip, io, os, sysconfig, tokenize
import sentencepiece as spm

PHRASES = """Все люди рождаются свободными и равными в своем достоинстве и правах.
Tous les êtres humains naissent libres et égaux en dignité et en droits.
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straße, Übung, Größe.
Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Qué tal? ¡Mañana!
Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.
Toate ființele umane se nasc libere și egale în demnitate și în drepturi.
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。
人人生而自由,在尊严和权利上一律平等。一只红色的圆环在蓝色方块上面。
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.
يولد جميع الناس أحراراً متساوين في الكرامة والحقوق.
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.
a photo of a red cat 😀 on a skateboard 🚀, 4k, highly detailed, trending — “cinematic” lighting…
"""


def sentences():
    for _ in range(20):
        yield from PHRASES.splitlines()
    for path in sorted(glob.glob(os.path.join(sysconfig.get_path("stdlib"), "*.py"))):
        source = open(path, encoding="utf-8", errors="ignore").read()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    yield " ".join(paragraph.split())[:2000]
        for t in tokenize.generate_tokens(io.StringIO(source).readline):
            if t.type == tokenize.COMMENT and len(t.string) > 20:
                yield t.string.strip("# ")


if __name__ == "__main__":
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([s for s in sentences() if s]), model_writer=out, model_type="unigram", vocab_size=6000,
        normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.9995, num_threads=1,
        minloglevel=1)
    with gzip.GzipFile("web.model.gz", "wb", mtime=0) as f:
        f.write(out.getvalue())
