"""Many visitors of a running app at once, as browsers ask: how long they wait, who is refused, is each picture right?

    python app.py &
    python tests/load.py http://127.0.0.1:7860 --visitors 30 --seconds 150 --pid $!
    python tests/load.py http://127.0.0.1:7860 --visitors 8 --watch 0 --seconds 600 --pid $!  # does its memory grow?

Each visitor draws (six times of ten) or reconstructs with the page's own settings, watches for --watch seconds, and
asks again. Afterwards every drawing is drawn once more, alone, and compared byte by byte. Ends with 1 if anybody was
refused, a picture differs, or 95 % of the answers took longer than --most seconds.

The server's memory is printed every ten seconds, and how much it grew per 1,000 answers, once over the whole time and
once over its second half: a server warms up, but it must not grow for ever.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from pathlib import Path

import httpx

PAUSE = 10.0  # seconds between two looks at the server's memory
SEEDS = 40  # different drawings
CLASSES = ("face", "fish", "house", "sea")


async def ask(web: httpx.AsyncClient, fns: dict[str, int], name: str, data: list) -> list:
    """What an event answers at last; RuntimeError if it refuses."""
    session = f"{random.getrandbits(64):x}"
    joined = await web.post("queue/join", json={"data": data, "fn_index": fns[name], "session_hash": session})
    if joined.status_code != 200:
        raise RuntimeError(joined.text[:200])
    async with web.stream("GET", "queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                if not message["success"]:
                    raise RuntimeError(str(message["output"])[:200])
                return message["output"]["data"]
    raise RuntimeError("the stream ended without an answer")


async def draw(web: httpx.AsyncClient, fns: dict[str, int], number: int) -> bytes:
    """The PNG of the drawing of that number."""
    answer = await ask(web, fns, "draw", ["scenes", CLASSES[number % len(CLASSES)], str(number), 1, 1, 1])
    file = answer[2].get("value", answer[2])
    return (await web.get(f"file={file['path']}")).content


async def visit(web: httpx.AsyncClient, fns: dict[str, int], plan: tuple[float, float], found: dict, seed: int) -> None:
    """One visitor until the time is up; the plan: when that is, and for how long an answer is watched."""
    chance, (end, watch) = random.Random(seed), plan
    await asyncio.sleep(watch * chance.random())
    while time.monotonic() < end:
        number, drawing, start = chance.randrange(SEEDS), chance.random() < 0.6, time.monotonic()
        try:
            if drawing:
                found["pictures"].append((number, await draw(web, fns, number)))
            else:
                await ask(web, fns, "reconstruct", ["scenes", "sailboat", None])
            found["draw" if drawing else "reconstruct"].append(time.monotonic() - start)
        except (RuntimeError, httpx.HTTPError) as error:
            found["refused"].append(repr(error))
        await asyncio.sleep(watch)


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    size = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
    return size["Rss:"], size["Pss:"]


async def watch_memory(pid: int, found: dict) -> None:
    """Note (answers so far, RSS, PSS) every few seconds, and print it, until cancelled."""
    start = time.monotonic()
    while True:
        found["memory"].append((len(found["draw"]) + len(found["reconstruct"]), *memory(pid)))
        words = "{:5.0f} s, {:5d} answers: RSS {:.1f} MB, PSS {:.1f} MB".format
        print(words(time.monotonic() - start, *found["memory"][-1]), flush=True)
        await asyncio.sleep(PAUSE)


def growth(noted: list[tuple[int, float, float]]) -> float:
    """MB of RSS per 1,000 answers: the slope of the straight line through all points; NaN of less than three."""
    if len({answers for answers, *_ in noted}) < 3:
        return float("nan")
    answers, resident, _ = zip(*noted, strict=True)
    return 1000 * statistics.linear_regression(answers, resident).slope


def share(values: list[float], part: float) -> float:
    """The quantile; NaN of nothing."""
    return sorted(values)[int(part * (len(values) - 1))] if values else float("nan")


async def main(args: argparse.Namespace) -> int:
    """Print what was found; the exit status."""
    found = {"draw": [], "reconstruct": [], "refused": [], "pictures": [], "memory": []}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"{args.url.rstrip('/')}/gradio_api/", timeout=120, limits=limits) as web:
        config = (await web.get(f"{args.url.rstrip('/')}/config")).json()
        fns = {fn["api_name"]: fn["id"] for fn in config["dependencies"] if fn["api_name"]}
        await draw(web, fns, 0)  # the models are loaded
        await ask(web, fns, "reconstruct", ["scenes", "sailboat", None])
        watching = asyncio.create_task(watch_memory(args.pid, found)) if args.pid else None
        plan = time.monotonic() + args.seconds, args.watch
        await asyncio.gather(*(visit(web, fns, plan, found, seed) for seed in range(args.visitors)))
        if watching:
            watching.cancel()
        alone = {number: await draw(web, fns, number) for number in {number for number, _ in found["pictures"]}}
    different = sum(picture != alone[number] for number, picture in found["pictures"])
    print(f"{args.visitors} visitors, {args.seconds:g} s: {len(found['draw'])} drawings, {different} of them different")
    for name in ("draw", "reconstruct"):
        values = found[name]
        half, most = share(values, 0.5), share(values, 0.95)
        print(f"{name}: median {half:.2f} s, 95 % within {most:.2f} s, longest {max(values):.2f} s")
    print(f"refused: {len(found['refused'])} {found['refused'][:2]}")
    if args.pid:
        noted = found["memory"]
        late = growth(noted[len(noted) // 2 :])
        print(f"server memory, MB per 1,000 answers: {growth(noted):.1f}, in the second half {late:.1f}")
    slow = max(share(found[name], 0.95) for name in ("draw", "reconstruct")) > args.most
    return int(bool(found["refused"] or different or slow))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of the app")
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--watch", type=float, default=3, help="seconds between an answer and the next press")
    parser.add_argument("--most", type=float, default=5, help="seconds within which 95 %% must be answered")
    parser.add_argument("--pid", type=int, help="the app's process, whose memory is printed")
    sys.exit(asyncio.run(main(parser.parse_args())))
