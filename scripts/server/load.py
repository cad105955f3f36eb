#!/usr/bin/env python3
"""Load on a running `asterism serve`: latency alone, at half load and at four times the capacity.

    asterism serve --addr 127.0.0.1:8080 &
    python scripts/server/load.py --url http://127.0.0.1:8080 --pid $! --seconds 60 --soak 100000

Only the standard library is used. The phases:

alone     one request after the other; the header Server-Timing tells the time of tokenizer, queue and
          model, the rest is the server (and this client)
capacity  requests from --clients connections, each sending as soon as it has an answer
half      requests at half of that rate, at random times (a Poisson process with a fixed seed)
overload  the same at --factor times the capacity
recovery  time after the overload until requests are answered as when alone
soak      --soak requests from --clients connections

Every request has --texts texts of --file (the second column of a table, or lines). Prints one line a
phase and, with --json FILE, writes all figures. Exit code 1 if a reply is neither 200 nor 429, a 429 has
no Retry-After, or a connection breaks.
"""
import argparse
import asyncio
import collections
import json
import pathlib
import random
import re
import statistics
import sys
import time
import urllib.parse

TIMING = re.compile(rb"server-timing: ([^\r]*)", re.IGNORECASE)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
MOST_CONNECTIONS = 900


class Connection(asyncio.Protocol):
    """A kept connection with one request at a time."""

    def __init__(self):
        self.buffer = bytearray()
        self.reply = None
        self.closed = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end])
        length = int(LENGTH.search(head).group(1))
        if len(self.buffer) < end + 4 + length:
            return
        self.buffer.clear()
        if b"connection: close" in head.lower():
            self.closed = True
            self.transport.close()
        if self.reply and not self.reply.done():
            self.reply.set_result(head)

    def connection_lost(self, error):
        self.closed = True
        if self.reply and not self.reply.done():
            self.reply.set_exception(error or ConnectionResetError("closed without a reply"))

    async def send(self, request):
        self.reply = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.reply


class Phase:
    """Counts and times of a phase."""

    def __init__(self, name):
        self.name = name
        self.statuses = collections.Counter()
        self.broken = collections.Counter()
        self.without_retry = 0
        self.times = []
        self.rejected_times = []
        self.overhead = []
        self.unsent = 0

    def add(self, head, took):
        status = int(head[9:12])
        self.statuses[status] += 1
        if status == 200:
            self.times.append(took)
            timing = TIMING.search(head)
            if timing:
                inside = sum(float(x) for x in re.findall(rb"dur=([\d.]+)", timing.group(1)))
                self.overhead.append(took * 1000 - inside)
        elif status == 429:
            self.rejected_times.append(took)
            self.without_retry += b"retry-after: " not in head.lower()

    def summary(self):
        def ms(values, share):
            if not values:
                return None
            return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000, 2)

        return {
            "phase": self.name,
            "seconds": round(self.seconds, 2),
            "statuses": dict(sorted(self.statuses.items())),
            "broken": dict(self.broken),
            "unsent": self.unsent,
            "without_retry_after": self.without_retry,
            "accepted_per_second": round(self.statuses[200] / self.seconds, 1),
            "p50_ms": ms(self.times, 0.5),
            "p99_ms": ms(self.times, 0.99),
            "rejected_p99_ms": ms(self.rejected_times, 0.99),
            "overhead_p50_ms": round(statistics.median(self.overhead), 3) if self.overhead else None,
        }


class Load:
    def __init__(self, args):
        url = urllib.parse.urlsplit(args.url)
        self.host, self.port = url.hostname, url.port or 80
        self.pid = args.pid
        self.idle = []
        self.open = 0
        self.opened = 0
        texts = []
        for line in pathlib.Path(args.file).read_text().splitlines():
            texts.append(line.split("\t")[-1] if args.last_column else line.split("\t")[0])
        texts = [text for text in texts if text]
        self.requests = []
        rng = random.Random(7)
        for _ in range(2000):
            body = json.dumps({"input": rng.choices(texts, k=args.texts)}).encode()
            head = (
                f"POST /v1/embeddings HTTP/1.1\r\nhost: {url.netloc}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            )
            if args.key:
                head += f"authorization: Bearer {args.key}\r\n"
            self.requests.append(head.encode() + b"\r\n" + body)
        self.next = 0

    def request(self):
        self.next = (self.next + 1) % len(self.requests)
        return self.requests[self.next]

    async def connection(self):
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
            self.open -= 1
        self.open += 1
        self.opened += 1
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.port)
        return connection

    async def one(self, phase):
        """Sends a request and notes the outcome; the time counts from here."""
        start = time.perf_counter()
        try:
            connection = await self.connection()
            head = await connection.send(self.request())
        except OSError as error:
            self.open -= 1
            phase.broken[type(error).__name__] += 1
            return None
        took = time.perf_counter() - start
        phase.add(head, took)
        if connection.closed:
            self.open -= 1
        else:
            self.idle.append(connection)
        return int(head[9:12]), took

    async def closed_loop(self, name, clients, seconds=None, requests=None):
        phase = Phase(name)
        start = time.perf_counter()
        left = [requests]

        async def client():
            while True:
                if seconds is not None and time.perf_counter() - start >= seconds:
                    return
                if requests is not None:
                    if left[0] <= 0:
                        return
                    left[0] -= 1
                outcome = await self.one(phase)
                if outcome and outcome[0] == 429:
                    await asyncio.sleep(0.005)
                    left[0] = left[0] + 1 if requests is not None else None

        await asyncio.gather(*(client() for _ in range(clients)))
        phase.seconds = time.perf_counter() - start
        return phase

    async def open_loop(self, name, rate, seconds):
        phase = Phase(name)
        rng = random.Random(11)
        start = time.perf_counter()
        due = start
        tasks = set()
        while due - start < seconds:
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
            while due <= time.perf_counter() and due - start < seconds:
                due += rng.expovariate(rate)
                if self.open - len(self.idle) >= MOST_CONNECTIONS:
                    phase.unsent += 1
                    continue
                task = asyncio.create_task(self.one(phase))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0)
        phase.seconds = time.perf_counter() - start
        if tasks:
            await asyncio.wait(tasks)
        return phase

    async def recovery(self, limit):
        """Seconds until five requests in a row are as fast as `limit`."""
        phase = Phase("recovery")
        start = time.perf_counter()
        good = 0
        while good < 5:
            began = time.perf_counter()
            outcome = await self.one(phase)
            fine = outcome and outcome[0] == 200 and outcome[1] <= limit
            good = good + 1 if fine else 0
            if good == 1:
                recovered = began - start
            if time.perf_counter() - start > 60:
                return None
        return recovered

    def memory(self):
        if not self.pid:
            return None
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return round(int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024, 1)


async def main(args):
    load = Load(args)
    report = {"settings": {key: value for key, value in vars(args).items() if key != "key"}}
    report["phases"] = []

    def note(phase):
        summary = phase.summary() | {"rss_mib": load.memory(), "connections_opened": load.opened}
        load.opened = 0
        report["phases"].append(summary)
        print(json.dumps(summary), flush=True)
        return summary

    alone = note(await load.closed_loop("alone", 1, seconds=min(args.seconds, 10)))
    await load.closed_loop("warm", args.clients, seconds=2)
    capacity = note(await load.closed_loop("capacity", args.clients, seconds=min(args.seconds, 15)))
    rate = capacity["accepted_per_second"]
    half = note(await load.open_loop("half", rate / 2, args.seconds))
    before = load.memory()
    over = note(await load.open_loop("overload", rate * args.factor, args.seconds))
    recovered = await load.recovery(max(3 * alone["p50_ms"], half["p99_ms"]) / 1000)
    report["recovery_seconds"] = recovered and round(recovered, 3)
    report["overload_p99_to_half_p99"] = round(over["p99_ms"] / half["p99_ms"], 2)
    report["overload_rate_reached"] = round(sum(over["statuses"].values()) / over["seconds"], 1)
    report["overload_rate_wanted"] = round(rate * args.factor, 1)
    report["rss_mib_before_and_after_overload"] = [before, load.memory()]
    if args.soak:
        note(await load.closed_loop("soak", args.clients, requests=args.soak))
    print(json.dumps({key: value for key, value in report.items() if key != "phases"}))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2))
    bad = [
        phase["phase"]
        for phase in report["phases"]
        if set(phase["statuses"]) - {200, 429} or phase["broken"] or phase["without_retry_after"]
    ]
    if bad:
        print("replies other than 200 and 429 in:", *bad, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", help="API key of the server")
    parser.add_argument("--pid", type=int, help="process of the server, for its memory")
    parser.add_argument("--file", default="datasets/pocket/test.tsv")
    parser.add_argument("--last-column", action="store_true", help="texts are in the last column")
    parser.add_argument("--texts", type=int, default=1, help="texts a request")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--factor", type=float, default=4)
    parser.add_argument("--soak", type=int, default=0, help="requests of the last phase")
    parser.add_argument("--json", help="file for the figures")
    sys.exit(asyncio.run(main(parser.parse_args())))
