"""One run of the generator against one broker, its record, and the machine that it ran on.

Knows no table: `bench/compare` and `bench/founding` decide what is run and print it.
"""
import json
import os
import pathlib
import platform
import shlex
import subprocess
import tempfile

from brokers import ROOT, TARGET

# A longer run is aborted: the broker cannot keep up with connections or deliveries.
RUN_SECONDS_MAX = 180


def build():
    """Builds this broker, the generator and the servers without a runtime."""
    programs = [option for name in ("mqtt-broker", "load", "runtimes-bare", "runtimes-edge") for option in ("--bin", name)]
    command = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "mqtt-broker", "-p", "mqtt-broker-bench", "--features", "mqtt-broker/jemalloc"]
    subprocess.run([*command, *programs], cwd=ROOT, check=True)


def commit():
    return subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def machine():
    """The processor, the kernel, the commit, and the number of other tasks that want to run."""
    model = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, commit {commit()}, load average {load:.1f} before"


class Books:
    """All runs: written to the file of `--json`, with their errors recorded."""

    def __init__(self, seconds, file=None):
        self.seconds, self.file, self.commit, self.trouble, self.failed = seconds, file, commit(), [], False

    def measure(self, broker, scenario, **more):
        """One run of the generator against a fresh broker: its line of JSON; `refused` is the reason if there are no figures."""
        with tempfile.TemporaryDirectory() as name:
            broker.start(pathlib.Path(name))
            try:
                load = [str(TARGET / "load"), "--json", "--core", "1", "--seconds", str(self.seconds)]
                load += ["--broker", f"127.0.0.1:{broker.port}", "--pid", str(broker.process.pid)]
                load += [*broker.load_flags, "--scenario", *shlex.split(scenario)]
                done = subprocess.run(load, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
                run = json.loads(done.stdout) if done.returncode == 0 else {"refused": done.stderr.strip()}
            except subprocess.TimeoutExpired:
                run = {"refused": f"not done in {RUN_SECONDS_MAX} s"}
            finally:
                broker.stop()
        run.update(broker=broker.name, arguments=scenario, commit=self.commit, **more)
        if "refused" in run:
            self.trouble.append(f"{broker.name}, {scenario}: {run['refused']}")
            self.failed |= broker.is_own and broker.name != "bare"
        elif run["lost"] or run["duplicated"] or run["reordered"]:
            books = f"{run['lost']} lost, {run['duplicated']} twice, {run['reordered']} out of order"
            self.trouble.append(f"{broker.name}, {scenario}: {books}")
        if self.file:
            with open(self.file, "a") as file:
                file.write(json.dumps(run) + "\n")
        return run
