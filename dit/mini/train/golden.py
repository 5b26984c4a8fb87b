"""Writes dit/mini/testdata: renders and captions by scenes.py, which the Go package has to agree with."""
import json
import pathlib

import numpy as np
from PIL import Image

import scenes

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "testdata"


def main():
    rng = np.random.default_rng(7)
    every = scenes.SEEN_IDS + scenes.HELD_OUT_IDS
    specs = scenes.sample_scenes(24, rng, pairs=every, single=0.25)
    placed = [scenes.place(s, rng) for s in specs]
    images = [scenes.render(int(s[1]), p) for s, p in zip(specs, placed)]
    rows = [np.concatenate(images[i:i + 6], 1) for i in range(0, 24, 6)]
    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(FOLDER / "renders.png", optimize=True)
    entries = [{"scene": s.tolist(), "objects": [list(o) for o in p], "captions": [scenes.caption(s, rng) for _ in range(12)]}
               for s, p in zip(specs, placed)]
    lines = ",\n".join(json.dumps(e) for e in entries)
    (FOLDER / "renders.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
