"""Makes the miniature FLUX's text encoders out of the miniature PixArt's.

FLUX gives T5 no mask: padding takes part in its attention. So the trained encoder goes on with padding, taught to say
on every real token what it says with a mask, and on padding what it says on the end token. CLIP is new and small; it
is taught by read-outs (thrown away) of its pooled output: background, layout, and which words of the grammar the
caption has. That is additive in the words, so captions of unseen pairs are no different.
"""
import argparse
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel, T5EncoderModel

import bpe
import scenes
from tokenizer import MADE_UP, VOCABULARY, Tokenizer

LENGTH = 20  # tokens T5's prompts are padded to
NAMED = [*scenes.COLOUR_NAMES, *scenes.SHAPES, *scenes.SIZE_NAMES, "tiny", "little", "big"]


def clip_config(vocabulary):
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=128, projection_dim=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=bpe.LENGTH, hidden_act="quick_gelu", bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1)


def pad(ids):
    """Rows of sentencepiece ids padded to LENGTH."""
    return F.pad(ids, (0, LENGTH - ids.shape[1]))


def captions(count, seed, tokenizer):
    """Captions of training scenes: sentencepiece ids and their scenes."""
    rng = np.random.default_rng(seed)
    specs = scenes.sample_scenes(count, rng)
    return torch.from_numpy(tokenizer([scenes.caption(s, rng) for s in specs])).long(), torch.from_numpy(specs).long()


def disguise(ids, words, share):
    """Puts made-up words for a share of the colours, shapes and sizes."""
    hidden = (torch.rand(ids.shape) < share) & torch.isin(ids, words)
    return torch.where(hidden, torch.randint(MADE_UP, VOCABULARY, ids.shape), ids)


def schedule(step, steps, rate):
    return rate * min(1, (step + 1) / 50) * min(1, (steps - step) / (0.6 * steps))


def teach(model, loss_of, steps, rate, name):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    start = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step, steps, rate)
        loss, report = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"{name} step {step} {time.time() - start:.0f} s: loss {float(loss.detach()):.5f} {report()}", flush=True)


def t5_target(teacher, ids):
    """What the encoder says with a mask; on padding, what it says on the end token."""
    with torch.inference_mode():
        hidden = teacher(ids, attention_mask=(ids != 0).long()).last_hidden_state
    end = (ids != 0).sum(1) - 1
    return torch.where((ids != 0)[..., None], hidden, hidden[torch.arange(len(ids)), end][:, None])


def error(model, teacher, ids):
    """Squared error relative to the target's variance."""
    target = t5_target(teacher, ids)
    return (model(ids).last_hidden_state - target).square().mean() / target.var()


def train_t5(args, tokenizer, words):
    teacher = T5EncoderModel.from_pretrained(args.teacher, dtype=torch.float32).eval()
    model = T5EncoderModel.from_pretrained(args.teacher, dtype=torch.float32)
    data, _ = captions(60_000, 21, tokenizer)
    rng = np.random.default_rng(22)
    unseen = [scenes.caption(s, rng) for s in scenes.sample_scenes(500, rng, pairs=scenes.HELD_OUT_IDS)]
    unseen = pad(torch.from_numpy(tokenizer(unseen)).long())
    empty = torch.zeros(1, LENGTH, dtype=torch.long)
    empty[0, 0] = 1  # the empty caption: its end token alone

    def loss_of():
        ids = pad(disguise(data[torch.randint(len(data), (args.batch,))], words, 0.25))
        return error(model, teacher, torch.cat((ids, empty))), report

    @torch.no_grad()
    def report():
        return f"on captions of unseen pairs {float(error(model, teacher, unseen)):.5f}"

    teach(model, loss_of, args.steps, 2e-3, "t5")
    model.save_pretrained(args.run / "text_encoder_2")


def train_clip(args, tokenizer, words):
    translate = bpe.Translation(args.run / "clip_tokenizer", tokenizer)
    model = CLIPTextModel(clip_config(translate.size))
    named = torch.tensor([tokenizer.model.encode(w)[-1] for w in NAMED])
    heads = torch.nn.Linear(model.config.hidden_size, 3 + 3 + len(NAMED))
    data, specs = captions(60_000, 23, tokenizer)

    def loss_of():
        rows = torch.randint(len(data), (args.batch,))
        ids = disguise(data[rows], words, 0.25)
        pooled = model(torch.from_numpy(translate(ids.numpy()))).pooler_output
        ground, layout, present = heads(pooled).split((3, 3, len(NAMED)), 1)
        said = (ids[:, :, None] == named).any(1).float()
        loss = (F.cross_entropy(ground, specs[rows, 1]) + F.cross_entropy(layout, specs[rows, 0])
                + 4 * F.binary_cross_entropy_with_logits(present, said) + 0.02 * pooled.square().mean())
        right = ((present > 0) == said.bool()).all(1) & (ground.argmax(1) == specs[rows, 1])
        return loss, lambda: f"told {float(right.float().mean()):.3f}"

    teach(torch.nn.ModuleList((model, heads)), loss_of, args.steps, 2e-3, "clip")
    model.save_pretrained(args.run / "text_encoder")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of this training")
    parser.add_argument("--teacher", type=pathlib.Path, required=True, help="the miniature PixArt's text encoder")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=96)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = Tokenizer(args.run / "tokenizer" / "spiece.model")
    words = torch.tensor([tokenizer.model.encode(w)[-1] for w in NAMED])
    if not (args.run / "text_encoder").exists():
        train_clip(args, tokenizer, words)
    if not (args.run / "text_encoder_2").exists():
        train_t5(args, tokenizer, words)


if __name__ == "__main__":
    main()
