"""The hour behind bench/soak.sh: an encrypted cluster with jobs one after the other, faults at random, samples."""

import argparse, json, os, random, signal, socket, statistics, struct, subprocess, sys, tempfile, time
from pathlib import Path

CONVOY = os.environ["CONVOY"]
SPEC = """name = "soak"
seed = 7
[data]
train = "data"
[augment]
horizontal_flip = 0.5
[network]
layers = [{type="conv",out=8,kernel=3,padding=1,bias=false},{type="batch_norm"},{type="relu"},
    {type="max_pool",kernel=2},{type="flatten"},{type="linear",out=256},{type="relu"},{type="linear",out=3}]
[optimizer]
lr = 0.05
momentum = 0.9
[train]
batch = 32
shard = 4
[checkpoint]
every_steps = 50
"""
# Seeds and epochs of the jobs, in turn: each is some minutes of one machine.
JOBS = [(7, 450), (8, 300), (9, 600)]
# What may happen, and how often in comparison.
FAULTS = [("kill worker", 5), ("pause worker", 4), ("terminate worker", 2), ("kill coordinator", 2),
          ("pause coordinator", 2), ("terminate coordinator", 1)]
# What is sampled, and by how much more than a tenth its median may be larger in the last third than in the first: a
# process that starts anew begins small, and the state holds one job or two.
ROWS = [("coordinator MiB", 10), ("coordinator descriptors", 4), ("first worker MiB", 10),
        ("first worker descriptors", 4), ("state on disk MiB", 5)]


def data(folder, count=320, side=16, classes=3):
    """IDX images of stripes, like those of the tests."""
    folder.mkdir()
    dice = random.Random(3)
    for prefix, n in (("train", count), ("t10k", count // 4)):
        labels = bytes(dice.randrange(classes) for _ in range(n))
        pixels = bytearray()
        for label in labels:
            for row in range(side):
                for column in range(side):
                    lit = (column * classes // side) == label
                    pixels.append(max(0, min(255, (200 if lit else 30) + dice.randrange(-25, 25))))
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, n, side, side) + bytes(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, n) + labels)


class Soak:
    def __init__(self, options):
        self.options = options
        self.dice = random.Random(options.seed)
        self.work = Path(tempfile.mkdtemp(prefix="soak-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.env = {**os.environ, "CONVOY_HOME": str(self.work / "admin"), "NO_COLOR": "1"}
        self.env.pop("RUST_LOG", None)
        self.coordinator, self.workers = None, [None] * options.workers
        self.samples, self.happened = [], {}
        self.jobs_done, self.wrong, self.failures = 0, [], []

    def run(self, *args, timeout=120):
        done = subprocess.run([CONVOY, *args], env=self.env, cwd=self.work, timeout=timeout, capture_output=True,
                              text=True)
        return done.returncode, done.stdout, done.stderr

    def spawn(self, log, *args, env=None):
        with open(self.work / log, "ab") as file:
            return subprocess.Popen([CONVOY, *args], stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.work,
                                    env={**self.env, **(env or {})})

    def start_coordinator(self):
        self.coordinator = self.spawn("coordinator.log", "coordinator", "--state", "state", "--listen", self.address)

    def start_worker(self, number):
        home = {"CONVOY_HOME": str(self.work / f"home-{number}"), "CONVOY_CACHE": str(self.work / f"cache-{number}")}
        self.workers[number] = self.spawn(
            f"worker-{number}.log", "worker", "--coordinator", self.address, "--token-file", "token", "--threads", "1",
            "--name", f"worker-{number}", env=home)

    def until(self, what, seconds, ready):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = ready()
            if found:
                return found
            time.sleep(0.2)
        raise SystemExit(f"gave up waiting for {what}; logs are in {self.work}")

    def begin(self):
        data(self.work / "data")
        (self.work / "job.toml").write_text(SPEC)
        self.expected = []
        for seed, epochs in JOBS:
            code, out, err = self.run("train", "job.toml", "--set", f"seed={seed}", "--set", f"train.epochs={epochs}",
                                      "--json", "--out", f"alone-{seed}", timeout=3600)
            if code:
                raise SystemExit(err)
            self.expected.append(json.loads(out.splitlines()[-1])["parameters_digest"])
        code, _, err = self.run("cluster", "init", "--state", "state", "--coordinator", self.address)
        if code:
            raise SystemExit(err)
        self.start_coordinator()
        self.until("the coordinator", 30, lambda: self.run("health")[0] == 0)
        _, token, _ = self.run("token", "create", "--role", "worker", "--ttl", "24h", "--uses", "0")
        (self.work / "token").write_text(token)
        for number in range(self.options.workers):
            self.start_worker(number)

    # One call of the client is a coordinator's answer or none: it may be down.
    def jobs(self):
        code, out, _ = self.run("ls", "--json")
        return [json.loads(line) for line in out.splitlines()] if code == 0 else None

    def care_for_jobs(self):
        """Submits, compares what is over, and removes it."""
        jobs = self.jobs()
        if jobs is None:
            return
        live = 0
        for job in jobs:
            if job["state"] in ("queued", "running", "paused"):
                live += 1
                continue
            number = str(job["id"])
            if job["state"] != "completed":
                self.failures.append((number, job["state"], job.get("error")))
                self.run("rm", number)
                continue
            # `job` is its name with its number behind it.
            which = int(job["job"].split("-")[1])
            code, out, _ = self.run("audit", number, "--json")
            if code == 75:
                return
            exact = code == 0 and json.loads(out.splitlines()[-1])["exact"]
            if job["result"]["parameters_digest"] != self.expected[which] or not exact:
                self.wrong.append(number)
            if self.run("rm", number)[0] == 0:
                self.jobs_done += 1
        while live < 2:
            which = (self.jobs_done + live) % len(JOBS)
            seed, epochs = JOBS[which]
            sets = [f"seed={seed}", f"train.epochs={epochs}", f'name="soak-{which}"']
            if self.run("submit", "job.toml", "--detach", *[word for each in sets for word in ("--set", each)])[0]:
                return
            live += 1

    def fault(self):
        kind = self.dice.choices([name for name, _ in FAULTS], [weight for _, weight in FAULTS])[0]
        self.happened[kind] = self.happened.get(kind, 0) + 1
        # The first worker is paused, but never ends: what grows shows in it.
        number = self.dice.randrange(self.options.workers if kind == "pause worker" else self.options.workers - 1)
        number = number if kind == "pause worker" else number + 1
        process = self.workers[number] if "worker" in kind else self.coordinator
        if kind.startswith("pause"):
            process.send_signal(signal.SIGSTOP)
            time.sleep(self.dice.uniform(0.3, 6.0))
            process.send_signal(signal.SIGCONT)
            return
        process.send_signal(signal.SIGKILL if kind.startswith("kill") else signal.SIGTERM)
        process.wait()
        time.sleep(self.dice.uniform(0.0, 2.0))
        self.start_worker(number) if "worker" in kind else self.start_coordinator()

    def revive(self):
        """What ended by itself is a failure; it is started again, as a supervisor would."""
        for number, process in enumerate(self.workers):
            if process.poll() is not None:
                self.failures.append((f"worker-{number}", process.returncode))
                self.start_worker(number)
        if self.coordinator.poll() is not None:
            self.failures.append(("coordinator", self.coordinator.returncode))
            self.start_coordinator()

    def sample(self, since):
        def status(process):
            try:
                text = Path(f"/proc/{process.pid}/status").read_text()
                rss = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
                return rss / 1024, len(os.listdir(f"/proc/{process.pid}/fd"))
            except (OSError, StopIteration):
                return None
        disk = subprocess.run(["du", "-sk", "state"], cwd=self.work, capture_output=True, text=True).stdout.split()
        coordinator, worker = status(self.coordinator), status(self.workers[0])
        if coordinator and worker and disk:
            self.samples.append((since, *coordinator, *worker, int(disk[0]) / 1024))

    def grown(self):
        """Prints what was sampled; the medians of the thirds and the most of each row, and which rows grew."""
        third = max(1, len(self.samples) // 3)
        parts = [self.samples[:third], self.samples[third:-third], self.samples[-third:]]
        rows, grown = {}, []
        for column, (name, slack) in enumerate(ROWS, 1):
            medians = [statistics.median(sample[column] for sample in part) for part in parts if part]
            most = max(sample[column] for sample in self.samples)
            rows[name] = {"medians_of_thirds": [round(median, 1) for median in medians], "most": round(most, 1)}
            thirds = " ".join(f"{median:8.1f}" for median in medians)
            print(f"{name:26} medians of the thirds {thirds}   most {most:8.1f}")
            if medians[-1] > medians[0] * 1.1 + slack:
                grown.append(name)
        return rows, grown

    def report(self, seconds):
        """Prints what came of it; the exit code."""
        happened = ", ".join(f"{n} x {kind}" for kind, n in sorted(self.happened.items()))
        print(f"{seconds:.0f} s, seed {self.options.seed}; {happened}")
        print(f"{self.jobs_done} jobs ended with the digest of an undisturbed run and an exact ledger")
        if not self.jobs_done:
            self.failures.append("no job ended")
        if not self.samples:
            self.failures.append("nothing was sampled")
        rows, grown = self.grown() if self.samples else ({}, [])
        for what, found in (("wrong digest or ledger", self.wrong), ("failures", self.failures), ("grew", grown)):
            if found:
                print(f"{what}: {found}")
        if self.options.json:
            print(json.dumps({"seconds": round(seconds), "seed": self.options.seed, "faults": self.happened,
                              "jobs": self.jobs_done, "wrong": self.wrong, "failures": self.failures, "grew": grown,
                              "samples": rows}))
        return 1 if self.wrong or self.failures or grown else 0

    def soak(self):
        self.begin()
        began = time.monotonic()
        next_fault, next_sample, told = began + 10, began, began
        try:
            while (now := time.monotonic()) - began < self.options.seconds:
                self.revive()
                self.care_for_jobs()
                if now >= next_sample:
                    self.sample(now - began)
                    next_sample = now + 5
                if now >= next_fault:
                    self.fault()
                    next_fault = time.monotonic() + self.dice.expovariate(1 / self.options.every)
                if now - told >= 60:
                    told = now
                    left = self.options.seconds - (now - began)
                    faults = sum(self.happened.values())
                    print(f"{now - began:.0f} s, {left:.0f} s left: {faults} faults, {self.jobs_done} jobs",
                          file=sys.stderr)
                time.sleep(0.5)
            return self.report(time.monotonic() - began)
        finally:
            for process in [self.coordinator, *self.workers]:
                if process and process.poll() is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                    process.wait()


options = argparse.ArgumentParser()
options.add_argument("--seconds", type=float, default=3600)
options.add_argument("--every", type=float, default=20)
options.add_argument("--seed", type=int, default=int(time.time()))
options.add_argument("--workers", type=int, default=4)
options.add_argument("--json", action="store_true")
options = options.parse_args()
if options.workers < 2:
    sys.exit("--workers: the first one never ends, so it takes at least 2")
sys.exit(Soak(options).soak())
