"""Trains the text encoder: every output token has to tell the whole scene.

A T5 learned only through the diffusion loss takes very long to bind colours, sizes
and shapes to places. Here it is taught directly, by a linear read-out (thrown away
afterwards) of what stands at each of five places, from every token. Since shape,
colour and size are read out by separate heads, unseen pairs of them are told as well.
Which object stands where is an exclusive-or of words and their order, a long plateau
for gradient descent. Three more read-outs take it away: the first layer tells which
relation is stated and whether a token belongs to the first object named, the second
layer the place of the object that a token belongs to. Most captions get made-up words for
some colours, shapes and sizes (and are not asked for what these said): a shape has to be
read whatever its colour, or the pairs that training leaves out would not be understood.
For the same end the effects of two words of one object are driven to be additive.
"""
import argparse
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import T5Config, T5EncoderModel

import scenes
from tokenizer import MADE_UP, VOCABULARY, Tokenizer

CLASSES = (len(scenes.SHAPES) + 1, len(scenes.COLOURS) + 1, len(scenes.SIZES) + 1)  # the last says: nothing here
PLACES = 5  # centre, left, right, upper, lower
WIDTHS = [len(scenes.BACKGROUNDS)] + list(CLASSES) * PLACES


def config(layers):
    return T5Config(vocab_size=VOCABULARY, d_model=96, d_kv=24, d_ff=192, num_layers=layers, num_heads=4, dropout_rate=0.0,
                    feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False,
                    tie_word_embeddings=True)


def targets(specs):
    """What the read-out should say: int64 [count, 16], background, then shape, colour, size of each place."""
    out = np.tile(np.asarray([0] + [c - 1 for c in CLASSES] * PLACES), (len(specs), 1))
    out[:, 0] = specs[:, 1]
    rows = np.arange(len(specs))
    first = np.choose(specs[:, 0], (0, 1, 3))
    two = specs[:, 0] != scenes.SINGLE
    for k in range(3):
        out[rows, 1 + 3 * first + k] = specs[:, 2 + k]
        out[rows[two], 1 + 3 * (first[two] + 1) + k] = specs[two, 5 + k]
    return torch.from_numpy(out).long()


RELATIONS = (("left",), ("right",), ("above", "over"), ("below", "under"))


def tags(ids, specs, tokenizer):
    """What the early layers should say: int64 [count, 3, LENGTH].

    Per token the statement (0 none, else 1 + relation + 4 if it trails), the order (0 first object named,
    1 second, -1 no object's token) and the place (0-4, or -1) of the object that a token belongs to.
    """
    def piece(word):
        return tokenizer.model.piece_to_id("\u2581" + word)

    statement = np.zeros(len(ids), int)
    for k, words in enumerate(RELATIONS):
        statement[np.isin(ids, [piece(w) for w in words]).any(1)] = 1 + k
    statement += 4 * (ids == piece("with")).any(1)
    colours = [piece(c) for c in scenes.COLOUR_NAMES]
    is_colour = np.isin(ids, colours)
    order = np.where(is_colour, is_colour.cumsum(1) - 1, -1)
    first = np.choose(specs[:, 0], (0, 1, 3))[:, None]
    place = np.full(ids.shape, -1)
    for column, where in ((3, first), (6, first + 1)):
        wanted = np.where(specs[:, column] >= 0, np.take(colours, specs[:, column]), -1)[:, None]
        place = np.where(ids == wanted, where, place)
    for tag in (order, place):  # a size stands before its colour, a shape behind it
        tag[:, 1:] = np.maximum(tag[:, 1:], np.where(is_colour, tag, -1)[:, :-1])
        tag[:, :-1] = np.maximum(tag[:, :-1], np.where(is_colour, tag, -1)[:, 1:])
    statement = np.broadcast_to(statement[:, None], ids.shape)
    return torch.from_numpy(np.stack((statement, order, place), 1)).long()


def loss_and_right(logits, want, mask):
    """Mean cross-entropy over tokens and the share of tokens that tell everything right."""
    loss, right = 0.0, torch.ones(mask.shape, dtype=torch.bool)
    for part, target in zip(logits.split(WIDTHS, -1), want.unbind(1)):
        target = target[:, None].expand(mask.shape)  # -100 where the caption does not tell
        loss = loss + F.cross_entropy(part[mask], target[mask])
        right &= part.argmax(-1) == target
    return loss, (right & mask).sum() / mask.sum()


def pool(count, seed, tokenizer, **options):
    rng = np.random.default_rng(seed)
    specs = scenes.sample_scenes(count, rng, **options)
    ids = tokenizer([scenes.caption(s, rng) for s in specs])
    return torch.from_numpy(ids).long(), targets(specs), tags(ids, specs, tokenizer)


def replace_words(ids, want, tag, is_colour, share):
    """Puts made-up words (unused ids) for some sizes, colours and shapes."""
    place = tag[:, 2]
    hidden = (torch.rand(ids.shape) < share) & (place >= 0)
    before, behind = torch.zeros_like(is_colour), torch.zeros_like(is_colour)
    before[:, :-1], behind[:, 1:] = is_colour[:, 1:], is_colour[:, :-1]
    want = want.clone()
    for k, kind in enumerate((behind, is_colour, before)):  # shape, colour, size
        row, column = torch.nonzero(hidden & kind, as_tuple=True)
        want[row, 1 + 3 * place[row, column] + k] = -100
    return torch.where(hidden, torch.randint(MADE_UP, VOCABULARY, ids.shape), ids), want, tag


def vary(ids, is_colour):
    """Four versions of each caption: two words of one object kept or made up, [kept, first, second, both]."""
    count = len(ids)
    rank = torch.rand(ids.shape).masked_fill(~is_colour, -1)
    colour = rank.argmax(1)
    offsets = torch.tensor([[-1, 0], [0, 1], [-1, 1]])[torch.randint(3, (count,))]
    versions = ids.repeat(4, 1, 1)
    rows = torch.arange(count)
    for k, changed in ((0, (1, 3)), (1, (2, 3))):
        word = torch.randint(MADE_UP, VOCABULARY, (count,))
        for v in changed:
            versions[v, rows, colour + offsets[:, k]] = word
    return versions


def interaction(hidden, mask):
    """How far from additive the two words' effects on the output tokens are, relative to the effects."""
    kept, first, second, both = hidden
    mixed = (kept - first - second + both).square().mean(-1)[mask].mean()
    effect = ((kept - first).square() + (kept - second).square()).mean(-1)[mask].mean()
    return mixed / (effect.detach() + 1e-3)


class Reader(torch.nn.Module):
    """The encoder with both read-outs."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        width = encoder.config.d_model
        self.scene = torch.nn.Linear(width, sum(WIDTHS))
        self.early = torch.nn.Sequential(torch.nn.RMSNorm(width), torch.nn.Linear(width, 9 + 2))
        self.place = torch.nn.Sequential(torch.nn.RMSNorm(width), torch.nn.Linear(width, PLACES))

    def forward(self, ids, want, tag):
        """Loss of all read-outs; shares of tokens right in the scene, the statement, the order and the place."""
        out = self.encoder(ids, attention_mask=ids != 0, output_hidden_states=True)
        loss, right = loss_and_right(self.scene(out.last_hidden_state), want, ids != 0)
        shares = [right]
        early = self.early(out.hidden_states[1])
        place = self.place(out.hidden_states[2])
        for logits, target in zip((early[..., :9], early[..., 9:], place), tag.unbind(1)):
            kept = (target >= 0) & (ids != 0)
            loss = loss + 2 * F.cross_entropy(logits[kept], target[kept])
            shares.append((logits.argmax(-1) == target)[kept].float().mean())
        return loss, shares


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of this training")
    parser.add_argument("--init", type=pathlib.Path, help="text encoder to continue from")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--out", default="text_encoder")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--bind", type=int, default=500, help="step from which effects of words shall be additive")
    parser.add_argument("--additive", type=float, default=3.0, help="weight of that")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--captions", type=int, default=150_000)
    parser.add_argument("--rate", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = Tokenizer(args.run / "tokenizer" / "spiece.model")
    data = pool(args.captions, 1, tokenizer)
    tests = {"seen": pool(1000, 2, tokenizer), "held out": pool(1000, 3, tokenizer, pairs=scenes.HELD_OUT_IDS)}
    reader = Reader(T5EncoderModel.from_pretrained(args.init, dtype=torch.float32) if args.init
                    else T5EncoderModel(config(args.layers)))
    if args.init and (args.init / "reader.pt").exists():
        reader.load_state_dict(torch.load(args.init / "reader.pt", weights_only=True))
    optimizer = torch.optim.AdamW(reader.parameters(), lr=args.rate, weight_decay=0.1, betas=(0.9, 0.98))
    colours = torch.tensor([tokenizer.model.piece_to_id("\u2581" + c) for c in scenes.COLOUR_NAMES])
    start, apart = time.time(), torch.zeros(())
    for step in range(args.steps + 1):
        if step % 250 == 0 or step == args.steps:
            with torch.no_grad():
                report = [f"{name} loss {l:.4f} right {' '.join(f'{x:.4f}' for x in r)}"
                          for name, (l, r) in ((n, reader(*t)) for n, t in tests.items())]
            print(f"step {step} {time.time() - start:.0f} s: {', '.join(report)}, interaction {float(apart.detach()):.4f}",
                  flush=True)
        if step == args.steps:
            torch.save(reader.state_dict(), args.run / "reader.tmp")
            reader.encoder.save_pretrained(args.run / args.out)
            (args.run / "reader.tmp").rename(args.run / args.out / "reader.pt")
            break
        rate = args.rate * min(1, step / 100) * min(1, (args.steps - step) / (0.5 * args.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(data[0]), (args.batch,))
        ids, want, tag = (d[rows] for d in data)
        is_colour = torch.isin(ids, colours)
        ids, want, tag = replace_words(ids, want, tag, is_colour, 0.3)
        loss, _ = reader(ids, want, tag)
        if step >= args.bind:
            versions = vary(ids, is_colour)
            hidden = reader.encoder(versions.flatten(0, 1), attention_mask=(versions != 0).flatten(0, 1))
            apart = interaction(hidden.last_hidden_state.unflatten(0, (4, -1)), ids != 0)
            loss = loss + args.additive * apart
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()


if __name__ == "__main__":
    main()
