"""The table of README.md between <!-- bench --> and <!-- /bench -->, from bench/results/*.json."""
import json
import pathlib
import sys

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def rows(results):
    for r in results:
        m, command = r["medians"], r["command"]
        if r["kind"] == "step":
            for peer in [name for name in m if name != "ecadx"]:
                yield f"PixArt-{r['resolution']} {r['dtype']}, one step with guidance", f"{m['ecadx']:.0f} ms", f"diffusers {peer} {m[peer]:.0f} ms", f"{m['ecadx'] / m[peer]:.2f}x the time", command
        elif r["kind"] == "images":
            for peer in [name for name in m if name != "ecadx"]:
                yield (f"miniature, pictures a second, {r['dtype']}", f"{m['ecadx']:.1f} (batch {r['batch']['ecadx']})",
                       f"diffusers {peer} {m[peer]:.1f} (batch {r['batch'][peer]})", f"{m['ecadx'] / m[peer]:.2f}x the rate", command)
            if len(m) == 1:
                yield f"miniature, pictures a second, {r['dtype']}, {r['isa']} at most", f"{m['ecadx']:.1f} (batch {r['batch']['ecadx']})", "", "", command
        elif r["kind"] == "cached":
            fora = [s for s in r["schedules"] if "hooks_speedup" in s]
            for s in fora:
                yield f"PixArt-256 bfloat16 under {s['schedule']}, {r['steps']} steps", f"{s['speedup']:.2f}x faster", f"hooks in diffusers {s['hooks_speedup']:.2f}x faster", f"{s['pays']:.2f} of the saved FLOPs", command
            if not fora:
                worst = min(r["schedules"], key=lambda s: s["pays"])
                yield f"{r['case']}: {len(r['schedules'])} schedules, worst {worst['schedule']}", f"{worst['speedup']:.2f}x faster", "", f"{worst['pays']:.2f} of the saved FLOPs", command
        elif r["kind"] == "blocks":
            yield (f"FLUX.1-dev {r['resolution']} px {r['dtype']}, a double-stream and a single-stream block", f"{m['ecadx']:.0f} ms a step", "",
                   f"{r['process_peak_bytes'] / 1e9:.2f} GB at most, planned {r['planned_bytes'] / 1e9:.2f}", command)
        elif r["kind"] == "first":
            yield "`ecadx generate` on the miniature, start to picture", f"{m['ecadx']:.0f} ms", "", "", command


def rewrite(readme, folder):
    results = [r for r in (json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))) if "kind" in r]
    if not results:
        return
    lines = [BEGIN, "| what | ecadx | baseline, in turns with it | | command |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cells[:-1]) + f" | `{cells[-1]}` |" for cells in rows(results)]
    text = readme.read_text()
    before, rest = text.split(BEGIN, 1)
    readme.write_text(before + "\n".join(lines + [END]) + rest.split(END, 1)[1])


if __name__ == "__main__":
    rewrite(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
