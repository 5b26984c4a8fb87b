"""Records what pymoo 0.6.1.3 does, for the Go tests of package ga.

    pip install -r requirements.txt
    python record.py operators   # writes operators.json: every random draw of three short runs and what each
                                 # operator made of it (replayed bit for bit by replay_test.go)
    python record.py statistics  # writes statistics.json: final hypervolumes of 30 seeds per problem
                                 # (compared by Mann-Whitney tests in statistics_test.go)

Where pymoo's result depends on an unstable numpy sort (the tie order of randomized_argsort and of the
infeasible individuals), the sort is replaced by a stable one before recording. pymoo leaves that order open, and
numpy's answer differs from one CPU to the next.
"""
import json
import sys

import numpy as np
import pymoo
import pymoo.core.survival as survival_module
import pymoo.operators.survival.rank_and_crowding.classes as rc_module
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.indicators.hv import HV
from pymoo.operators.crossover.pntx import PointCrossover
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.sampling.rnd import BinaryRandomSampling
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.optimize import minimize
from pymoo.problems.multi.zdt import ZDT5
from pymoo.problems.single.knapsack import create_random_knapsack_problem

assert pymoo.__version__ == "0.6.1.3", pymoo.__version__


# --- stable sorts where pymoo leaves ties open -------------------------------------------------------------------
def stable_randomized_argsort(values, method="numpy", order="ascending"):
    permutation = np.random.permutation(len(values))
    index = permutation[np.argsort(values[permutation], kind="stable")]
    return index if order == "ascending" else np.flip(index, axis=0)


def stable_split(pop, sort_infeas_by_cv=True, **kwargs):
    cv, feasible = pop.get("CV", "feasible")
    good, bad = np.where(feasible)[0], np.where(~feasible)[0]
    return good, bad[np.argsort(cv[bad, 0], kind="stable")]


# --- recording ----------------------------------------------------------------------------------------------------
class Tape:
    """Collects the results of numpy.random's functions between two calls of take()."""

    def __init__(self):
        self.draws = []
        for name in ("permutation", "random", "choice"):
            setattr(np.random, name, self.wrap(name, getattr(np.random, name)))

    def wrap(self, name, function):
        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            self.draws.append((name, args, np.array(result)))
            return result
        return call

    def take(self):
        draws, self.draws = self.draws, []
        return draws


def bits(x):
    """Genes as hexadecimal, gene 0 in the lowest bit of the first byte."""
    return np.packbits(np.asarray(x, dtype=bool), bitorder="little").tobytes().hex()


def finite(values):
    """JSON has no infinity: an infinite crowding distance is written as -1."""
    return [-1.0 if np.isinf(v) else float(v) for v in values]


class Recorder:
    def __init__(self, n_points):
        self.tape, self.n_points = Tape(), n_points
        self.rounds, self.survival = [], None

    def selection(self, original):
        def call(operator, problem, pop, n_select, n_parents=1, **kwargs):
            self.tape.take()
            parents = original(operator, problem, pop, n_select, n_parents, **kwargs)
            draws = self.tape.take()
            slots = n_select * n_parents * 2
            shuffled = np.concatenate([r for n, _, r in draws if n == "permutation"])[:slots]
            ties = [int(r != a[0][0]) for n, a, r in draws if n == "choice"]
            self.rounds.append({"slots": shuffled.tolist(), "ties": ties, "parents": parents.tolist()})
            return parents
        return call

    def crossover(self, original):
        def call(operator, problem, pop, parents=None, **kwargs):
            self.tape.take()
            off = original(operator, problem, pop, parents=parents, **kwargs)
            draws = self.tape.take()
            self.rounds[-1]["cross"] = draws[0][2].tolist()
            self.rounds[-1]["cuts"] = [(r[:self.n_points] + 1).tolist() for n, _, r in draws if n == "permutation"]
            self.rounds[-1]["crossed"] = [bits(x) for x in off.get("X")]
            return off
        return call

    def mutation(self, original):
        def call(operator, problem, pop, **kwargs):
            self.tape.take()
            off = original(operator, problem, pop, **kwargs)
            matrix, mutate = [r for n, _, r in self.tape.take() if n == "random"]
            near = np.argwhere(matrix < 4.0 / problem.n_var)
            self.rounds[-1]["mutate"] = mutate.tolist()
            # Draws far above the flip probability are left out; the test replays them as 1.
            self.rounds[-1]["flips"] = [[int(i), int(j), float(matrix[i, j])] for i, j in near]
            self.rounds[-1]["children"] = [bits(x) for x in off.get("X")]
            return off
        return call

    def ranking(self, original):
        def call(operator, problem, pop, *args, n_survive=None, **kwargs):
            self.tape.take()
            result = original(operator, problem, pop, *args, n_survive=n_survive, **kwargs)
            draws = self.tape.take()
            self.survival = draws[0][2].tolist() if draws else []
            return result
        return call


class Recorded(Problem):
    """Two objectives with many ties, and one constraint. n_var genes."""

    def __init__(self, n_var, min_reused, max_reused, coarse):
        super().__init__(n_var=n_var, n_obj=2, n_ieq_constr=1, xl=0, xu=1, vtype=bool)
        self.w = np.random.RandomState(7).randint(1, 6, size=n_var).astype(float)
        self.low, self.high, self.coarse = min_reused, max_reused, coarse

    def _evaluate(self, x, out, *args, **kwargs):
        reused = (~x.astype(bool)).astype(float)
        loss = (reused * self.w).sum(axis=1) + (reused[:, 1:] * reused[:, :-1]).sum(axis=1)
        out["F"] = np.column_stack([np.floor(loss / self.coarse), x.sum(axis=1).astype(float)])
        count = reused.sum(axis=1)
        out["G"] = np.maximum(self.low - count, count - self.high)[:, None]


def record_run(recorder, name, problem, first, pop_size, generations, mutation_prob, max_rounds):
    algorithm = NSGA2(pop_size=pop_size, sampling=first, crossover=PointCrossover(prob=0.9, n_points=4),
                      mutation=BitflipMutation(prob=mutation_prob))
    algorithm.mating.n_max_iterations = max_rounds
    algorithm.setup(problem, termination=("n_gen", generations + 1), seed=11, verbose=False)
    steps = []
    for _ in range(generations):
        recorder.rounds, recorder.survival = [], None
        off = algorithm.ask()
        if off is None:
            break
        algorithm.evaluator.eval(problem, off)
        before = list(algorithm.pop) if algorithm.pop is not None else []
        merged = before + list(off)
        algorithm.tell(infills=off)
        place = {id(ind): k for k, ind in enumerate(merged)}
        feasible = [ind for ind in algorithm.pop if ind.CV[0] <= 0]
        steps.append({
            "rounds": recorder.rounds,
            "offspring": [bits(ind.X) for ind in off],
            "f": [[float(v) for v in ind.F] for ind in off],
            "cv": [float(ind.CV[0]) for ind in off],
            "survival": recorder.survival or [],
            "survivors": [place[id(ind)] for ind in algorithm.pop],
            "rank": [int(ind.get("rank")) for ind in feasible],
            "crowding": finite([ind.get("crowding") for ind in feasible]),
        })
    return {"name": name, "n_var": problem.n_var, "pop_size": pop_size, "mutation_prob": mutation_prob,
            "max_rounds": max_rounds, "first": [bits(x) for x in first], "generations": steps}


def record_operators():
    survival_module.split_by_feasibility = stable_split
    rc_module.randomized_argsort = stable_randomized_argsort
    recorder = Recorder(n_points=4)
    TournamentSelection._do = recorder.selection(TournamentSelection._do)
    PointCrossover.do = recorder.crossover(PointCrossover.do)
    BitflipMutation.do = recorder.mutation(BitflipMutation.do)
    RankAndCrowding._do = recorder.ranking(RankAndCrowding._do)

    rng = np.random.RandomState(3)
    rows = np.repeat(rng.random_sample((12, 20, 1)) < 0.4, 84, axis=2)
    rows[:, 0, :] = True
    rows[:, :, ::3] |= rng.random_sample((12, 20, 28)) < 0.3
    runs = [
        # The genome of PixArt, 20 steps; the settings of ECAD.
        record_run(recorder, "pixart", Recorded(1680, 1, 1680, 1.0), rows.reshape(12, -1), 12, 5, 0.05, 100),
        # Small and coarse: duplicates, equal objectives, infeasible individuals, more than one mating round.
        record_run(recorder, "ties", Recorded(24, 4, 14, 6.0), rng.random_sample((16, 24)) < 0.5, 16, 14, 0.9, 100),
        # Fewer genes than cut points, a space that runs out of new genomes.
        record_run(recorder, "tiny", Recorded(4, 1, 3, 1.0), rng.random_sample((9, 4)) < 0.5, 8, 4, 0.5, 6),
        # Every first individual infeasible.
        record_run(recorder, "infeasible", Recorded(30, 20, 30, 3.0), rng.random_sample((11, 30)) < 0.8, 11, 10, 1.0, 100),
    ]
    with open("operators.json", "w") as f:
        json.dump({"pymoo": pymoo.__version__, "numpy": np.__version__, "runs": runs}, f, separators=(",", ":"))
        f.write("\n")


def record_statistics(seeds=30, generations=60, pop_size=48):
    knapsack = create_random_knapsack_problem(100, seed=1, variant="multi")
    knapsack.n_obj = 2  # its constructor leaves 1, which pymoo then refuses
    problems = {"zdt5": (ZDT5(), [1.1, 3.0]), "knapsack": (knapsack, [0.0, 40.0])}
    out = {"pymoo": pymoo.__version__, "seeds": seeds, "generations": generations, "pop_size": pop_size,
           "knapsack": {"profit": knapsack.P.tolist(), "weight": knapsack.W.tolist(), "capacity": int(knapsack.C)},
           "runs": []}
    for name, (problem, ref) in problems.items():
        for prob in (0.05, 1.0):
            volumes = []
            for seed in range(seeds):
                algorithm = NSGA2(pop_size=pop_size, sampling=BinaryRandomSampling(),
                                  crossover=PointCrossover(prob=0.9, n_points=4), mutation=BitflipMutation(prob=prob))
                result = minimize(problem, algorithm, ("n_gen", generations), seed=seed, verbose=False)
                feasible = result.pop.get("feasible").reshape(-1).astype(bool)
                front = result.pop[feasible].get("F")
                volumes.append(float(HV(ref_point=np.array(ref))(front)) if len(front) else 0.0)
            out["runs"].append({"problem": name, "reference": ref, "mutation_prob": prob, "hypervolume": volumes})
            print(name, prob, np.mean(volumes), np.std(volumes), flush=True)
    with open("statistics.json", "w") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    {"operators": record_operators, "statistics": record_statistics}[sys.argv[1]]()
