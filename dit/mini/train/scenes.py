"""Scenes of coloured shapes: what they are, how they look, how they are described.

The Go package ecadx/dit/mini holds the same renderer, grammar and scorer; a
golden test there compares its renders and captions with those of this file.

A scene is one row of integers (see COLUMNS). Object A is the only, the left or
the upper one, object B the right or the lower one.
"""
import numpy as np

SIZE = 64  # pixels, both ways
SHAPES = ("circle", "square", "triangle", "ring")
COLOURS = {
    "red": (220, 40, 40), "orange": (255, 140, 20), "yellow": (250, 220, 40),
    "green": (40, 160, 70), "blue": (40, 80, 220), "purple": (130, 50, 170),
}
BACKGROUNDS = {"white": (245, 245, 245), "black": (15, 15, 20), "grey": (128, 128, 132)}
SIZES = {"small": ("small", "tiny", "little"), "large": ("large", "big")}
# Radius range of each size in pixels of a 64-pixel picture.
RADII = ((7.5, 8.5), (12.5, 14.0))
# Colour-shape pairs that no training scene shows.
HELD_OUT = (("green", "ring"), ("blue", "triangle"), ("yellow", "circle"), ("purple", "square"))

COLOUR_NAMES = tuple(COLOURS)
BACKGROUND_NAMES = tuple(BACKGROUNDS)
SIZE_NAMES = tuple(SIZES)
HELD_OUT_IDS = tuple((COLOUR_NAMES.index(c), SHAPES.index(s)) for c, s in HELD_OUT)
SEEN_IDS = tuple((c, s) for c in range(6) for s in range(4) if (c, s) not in HELD_OUT_IDS)

SINGLE, BESIDE, STACKED = 0, 1, 2  # the layouts
COLUMNS = ("layout", "background", "shape_a", "colour_a", "size_a", "shape_b", "colour_b", "size_b")


def sample_scenes(count, rng, pairs=SEEN_IDS, single=0.2):
    """Draws count scenes, int8 [count, 8]; shape_b, colour_b, size_b are -1 in scenes of one object."""
    pairs = np.asarray(pairs, np.int8)
    out = np.full((count, len(COLUMNS)), -1, np.int8)
    out[:, 0] = np.where(rng.random(count) < single, SINGLE, rng.integers(1, 3, count))
    out[:, 1] = rng.integers(0, len(BACKGROUNDS), count)
    for i in range(count):
        a = pairs[rng.integers(len(pairs))]
        out[i, 2:5] = a[1], a[0], rng.integers(2)
        if out[i, 0] == SINGLE:
            continue
        b = a
        while b[0] == a[0]:  # two objects never share a colour
            b = pairs[rng.integers(len(pairs))]
        out[i, 5:8] = b[1], b[0], rng.integers(2)
    return out


def place(scene, rng):
    """Gives each object of a scene its centre and radius: a list of (shape, colour, x, y, r)."""
    across, along = rng.uniform(-1.0, 1.0, 2), rng.uniform(-2.0, 2.0, 2)
    centres = {
        SINGLE: [(32 + 1.5 * along[0], 32 + 1.5 * along[1])],
        BESIDE: [(17.5 + across[0], 32 + along[0]), (46.5 + across[1], 32 + along[1])],
        STACKED: [(32 + along[0], 17.5 + across[0]), (32 + along[1], 46.5 + across[1])],
    }[int(scene[0])]
    objects = []
    for (x, y), (shape, colour, size) in zip(centres, (scene[2:5], scene[5:8])):
        objects.append((int(shape), int(colour), x, y, rng.uniform(*RADII[int(size)])))
    return objects


def distance(shape, x, y, r):
    """Signed distance in pixels from the outline of a shape of radius r at the origin; negative inside."""
    if shape == 0:
        return np.hypot(x, y) - r
    if shape == 1:
        h = 0.86 * r
        dx, dy = np.abs(x) - h, np.abs(y) - h
        return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)
    if shape >= len(SHAPES):
        return other_distance(shape - len(SHAPES), x, y, r)
    if shape == 2:  # largest of the three half-planes; circumradius 1.12 r, so inradius 0.56 r
        k = np.sqrt(0.75)
        return np.maximum(np.maximum(k * x - 0.5 * y, -k * x - 0.5 * y), y) - 0.56 * r
    return np.maximum(np.hypot(x, y) - r, 0.5 * r - np.hypot(x, y))


OTHER_SHAPES = 6  # diamond, cross, upturned triangle, frame, bar, half disc: no caption names them


def other_distance(shape, x, y, r):
    u, v = np.abs(x), np.abs(y)
    if shape == 0:
        return (u + v - 1.1 * r) * np.sqrt(0.5)
    if shape == 1:
        return np.minimum(np.maximum(u - 0.95 * r, v - 0.35 * r), np.maximum(v - 0.95 * r, u - 0.35 * r))
    if shape == 2:
        return distance(2, x, -y, r)
    if shape == 3:
        return np.maximum(np.maximum(u, v) - 0.86 * r, 0.43 * r - np.maximum(u, v))
    if shape == 4:
        return np.maximum(u - r, v - 0.45 * r)
    return np.maximum(np.hypot(x, y - 0.4 * r) - r, y - 0.4 * r)


def other_colour(shape, background, rng):
    """Any colour that stands out from the background and does not look like a held-out pair with the shape."""
    palette = np.array(list(COLOURS.values()), float)
    ground = np.array(BACKGROUNDS[BACKGROUND_NAMES[background]], float)
    while True:
        colour = rng.uniform(0, 255, 3)
        nearest = int(((palette - colour) ** 2).sum(1).argmin())
        if (nearest, shape) not in HELD_OUT_IDS and np.linalg.norm(colour - ground) > 90:
            return tuple(colour)


def disguise(scene, objects, rng):
    """Gives about half of the placed objects a colour, or a shape, that no caption names.

    Returns the objects and, per object, what was changed: 0 nothing, 1 colour, 2 shape.
    """
    out, changed = [], []
    for shape, colour, x, y, r in objects:
        kind = int(rng.choice(3, p=(0.4, 0.35, 0.25)))
        if kind == 1:
            colour = other_colour(shape, int(scene[1]), rng)
        elif kind == 2:
            shape = len(SHAPES) + int(rng.integers(OTHER_SHAPES))
        out.append((shape, colour, x, y, r))
        changed.append(kind)
    return out, changed


def render(background, objects, size=SIZE):
    """Draws placed objects: uint8 [size, size, 3]."""
    image = np.empty((size, size, 3))
    image[:] = BACKGROUNDS[BACKGROUND_NAMES[background]]
    ys, xs = np.mgrid[0:size, 0:size] + 0.5
    for shape, colour, x, y, r in objects:
        alpha = np.clip(0.5 - distance(shape, xs - x, ys - y, r), 0, 1)[..., None]
        rgb = colour if isinstance(colour, tuple) else COLOURS[COLOUR_NAMES[colour]]
        image = image * (1 - alpha) + alpha * np.asarray(rgb, float)
    return np.floor(image + 0.5).astype(np.uint8)


RELATIONS = {  # first object relative to the second one
    "left": ("to the left of", "left of"), "right": ("to the right of", "right of"),
    "above": ("above", "over"), "below": ("below", "under"),
}
TRAILING = {"left": "to its left", "right": "to its right", "above": "above it", "below": "below it"}


def caption(scene, rng):
    """Describes a scene in one of its paraphrases."""
    def pick(options):
        return options[rng.integers(len(options))]

    def phrase(shape, colour, size):
        return f"a {pick(SIZES[SIZE_NAMES[size]])} {COLOUR_NAMES[colour]} {SHAPES[shape]}"

    a, b = scene[2:5], scene[5:8]
    if scene[0] == SINGLE:
        core = phrase(*a)
    else:
        forward = ("left", "above")[scene[0] - 1]
        backward = ("right", "below")[scene[0] - 1]
        trailing, swapped = rng.random() < 0.3, rng.random() < 0.5
        first, second = (b, a) if swapped else (a, b)
        # The word says where the first object is, or, trailing, where the second one is.
        word = backward if swapped != trailing else forward
        if trailing:
            core = f"{phrase(*first)} with {phrase(*second)} {TRAILING[word]}"
        else:
            core = f"{phrase(*first)} {pick(RELATIONS[word])} {phrase(*second)}"
    ground = BACKGROUND_NAMES[scene[1]]
    form = rng.integers(4)
    if form == 0:
        return f"on a {ground} background, {core}"
    return core + (f" on a {ground} background", f", {ground} background", f" against a {ground} background")[form - 1]
