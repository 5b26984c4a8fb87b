"""Muon with the Newton-Schulz iteration batched over all matrices of one shape."""
import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Keller Jordan's quintic


def orthogonalise(stack, rounds=5):
    """Brings the singular values of every matrix in [count, rows, columns] close to one, in bfloat16."""
    wide = stack if stack.shape[1] <= stack.shape[2] else stack.mT
    x = (wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16().contiguous()
    a, b, c = COEFFICIENTS
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide is stack else x.mT).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; step sizes match AdamW's root mean square (0.2 sqrt of the longer side)."""

    def __init__(self, parameters, lr=1.5e-3, momentum=0.95, weight_decay=0.01):
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(tuple(p.shape), []).append(p)
            for (rows, columns), members in shapes.items():
                grads = torch.stack([p.grad for p in members])
                key = self.state[members[0]]  # one stacked buffer per shape
                buffer = key.setdefault("momentum", torch.zeros_like(grads))
                buffer.lerp_(grads, 1 - group["momentum"])
                update = orthogonalise(grads.lerp_(buffer, group["momentum"]))
                scale = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for p, u in zip(members, update):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u, alpha=-scale)
