"""A broker with traffic, a Prometheus that scrapes it, and every expression of deploy/ evaluated there.

Usage: prometheus.py BINARY. Ends with code 1 and the reasons if something is not as it should be.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = sys.argv[1]
# Longest time that one state is waited for.
PATIENCE_S = 40
# A scrape of 64 shards in a release build, median.
SCRAPE_MS_MAX = 5.0
# The broker with and without its admin thread, in resident bytes.
MEMORY_BYTES_MAX = 8 * 1024 * 1024
# A broker without a list of revoked certificates has no end of one.
MAY_BE_EMPTY = {"mqtt_crl_expiry_seconds"}
passed, failures = 0, []


def check(name, is_right, detail=""):
    global passed
    if is_right:
        passed += 1
    else:
        failures.append(f"{name}: {detail}")


def await_(what, produce):
    """The first true result of `produce`."""
    last = time.monotonic() + PATIENCE_S
    while time.monotonic() < last:
        result = produce()
        if result:
            return result
        time.sleep(0.2)
    failures.append(f"{what} does not come")
    return None


class Broker:
    """A broker of this test's own, with its addresses read from its log."""

    def __init__(self, directory, config, shards, listeners=1):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        (self.directory / "broker.conf").write_text(config)
        self.log = open(self.directory / "log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "--config", "broker.conf", "--data-dir", "data", "--shards", str(shards)],
            cwd=self.directory, stdout=self.log, stderr=subprocess.STDOUT,
        )
        pattern = r"listening on 127\.0\.0\.1:(\d+)"
        ports = await_("`listening on`", lambda: len(self.find(pattern)) >= listeners and self.find(pattern))
        self.port = int(ports[0])
        served = self.find(r"admin serves http://127\.0\.0\.1:(\d+)")
        self.admin = int(served[0]) if served else None

    def find(self, pattern):
        return re.findall(pattern, (self.directory / "log").read_text())

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


class Client:
    """As much of MQTT 3.1.1 as makes traffic."""

    def __init__(self, port, client_id, clean=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        body = b"\x00\x04MQTT\x04" + bytes([2 if clean else 0]) + b"\x00\x00" + self.text(client_id)
        self.packet(0x10, body)
        assert self.socket.recv(4)[3] == 0, "CONNACK"

    @staticmethod
    def text(text):
        return len(text).to_bytes(2, "big") + text.encode()

    def packet(self, first, body):
        assert len(body) < 128
        self.socket.sendall(bytes([first, len(body)]) + body)

    def subscribe(self, topic):
        self.packet(0x82, b"\x00\x01" + self.text(topic) + b"\x01")
        assert self.socket.recv(5)[0] == 0x90, "SUBACK"

    def publish(self, topic, payload=b"x"):
        self.packet(0x30, self.text(topic) + payload)

    def close(self):
        self.packet(0xE0, b"")
        self.socket.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    """A Prometheus that scrapes one broker each second, with the alerts of deploy/ and no wait before they fire."""

    def __init__(self, directory, target):
        directory = pathlib.Path(directory)
        rules = (ROOT / "deploy/prometheus/alerts.yml").read_text()
        (directory / "alerts.yml").write_text(re.sub(r"for: \d+m", "for: 0s", rules).replace("[5m]", "[10s]").replace("[10m]", "[30s]"))
        (directory / "prometheus.yml").write_text(
            "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n"
            "rule_files: [alerts.yml]\n"
            "scrape_configs:\n"
            f"  - job_name: mqtt-broker\n    static_configs: [{{ targets: ['127.0.0.1:{target}'] }}]\n"
        )
        self.port = free_port()
        self.log = open(directory / "log", "w")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
            stdout=self.log, stderr=subprocess.STDOUT,
        )
        await_("Prometheus", lambda: self.ask("query", query="up") is not None)

    def ask(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # It starts.
                return None
            failures.append(f"{parameters}: {error.read().decode()}")
            return {"result": []}
        except OSError:
            return None

    def series(self, expression):
        return (self.ask("query", query=expression) or {}).get("result", [])

    def firing(self):
        alerts = self.ask("alerts") or {"alerts": []}
        return {alert["labels"]["alertname"] for alert in alerts["alerts"] if alert["state"] == "firing"}

    def end(self):
        self.process.terminate()
        self.process.wait(20)


def judge_text(broker):
    text = broker.get("/metrics")
    judged = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    check("promtool check metrics", judged.returncode == 0 and not judged.stderr, judged.stderr + judged.stdout)
    return set(re.findall(r"^# TYPE (\S+)", text, re.M))


def judge_names(families):
    """Every name in deploy/ is one that the broker has."""
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/board.json", "deploy/README.md"]:
        named = set(re.findall(r"\bmqtt_[a-z_]+[a-z]\b", (ROOT / file).read_text())) - {"mqtt_roles", "mqtt_broker"} - MAY_BE_EMPTY
        known = families | {f"{family}_{suffix}" for family in families for suffix in ["bucket", "sum", "count"]}
        check(f"names in {file}", named <= known, sorted(named - known))


def judge_board(prometheus):
    board = json.loads((ROOT / "deploy/grafana/board.json").read_text())
    count = 0
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "10s").replace("$instance", ".*")
            series = await_(f"{panel['title']}: {expression}", lambda: prometheus.series(expression)) \
                if not any(name in expression for name in MAY_BE_EMPTY) else prometheus.series(expression)
            check(panel["title"], series is not None, expression)
            count += 1
    check("the board has panels", count > 25, count)


def judge_alerts(prometheus, broker, work):
    rules = [rule for group in (prometheus.ask("rules") or {"groups": []})["groups"] for rule in group["rules"]]
    check("every alert is loaded", len(rules) == 9, len(rules))
    check("every alert is evaluated", all(rule["health"] == "ok" for rule in rules), [rule.get("lastError") for rule in rules])
    # Provoked: a queue that is full, a certificate that ends in ten days, clients that flap, a reload with an error.
    slow = Client(broker.port, "slow", clean=False)
    slow.subscribe("t")
    slow.close()
    configuration = (work / "broker" / "broker.conf").read_text()
    publisher = Client(broker.port, "publisher")

    def drop():
        for _ in range(20):
            publisher.packet(0x32, Client.text("t") + b"\x00\x07x")
            Client(broker.port, "flapping").close()
        (work / "broker" / "broker.conf").write_text(configuration + "[rules]\ndefault = 7\n")
        broker.process.send_signal(signal.SIGHUP)
        wanted = {"MqttMessagesDropped", "MqttCertificateExpires", "MqttClientsFlap", "MqttReloadFailed"}
        return prometheus.firing() >= wanted

    check("alerts fire on what they are for", await_("four alerts", drop), prometheus.firing())
    check("no other alert fires", not prometheus.firing() & {"MqttBrokerDown", "MqttBrokerDegraded", "MqttMemoryNearCeiling"}, prometheus.firing())
    broker.end()
    check("an end of the broker is told", await_("MqttBrokerDown", lambda: "MqttBrokerDown" in prometheus.firing()))


def judge_figures(work):
    """The scrape of 64 shards and the memory of the admin thread, which only a release build can keep to."""
    is_release = "release" in BINARY
    admin = '[admin]\nbind = "127.0.0.1:0"\n'
    many = Broker(work / "many", "port = 0\n" + admin, 64)
    times = []
    for _ in range(30):
        began = time.perf_counter()
        text = many.get("/metrics")
        times.append((time.perf_counter() - began) * 1000)
    median = sorted(times)[15]
    print(f"a scrape of 64 shards: {median:.2f} ms, {len(text)} bytes, {text.count(chr(10))} lines")
    check("a scrape of 64 shards", median < SCRAPE_MS_MAX or not is_release, f"{median:.2f} ms")
    with_admin = many.resident_bytes()
    many.end()
    without = Broker(work / "without", 'port = 0\n[admin]\nbind = "off"\n', 64)
    taken = with_admin - without.resident_bytes()
    without.end()
    print(f"memory of the admin thread after 30 scrapes: {taken / 1024:.0f} KiB")
    check("memory of the admin thread", taken < MEMORY_BYTES_MAX, taken)


def main():
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", work / "server.key", "-out", work / "server.pem"],
            check=True, capture_output=True,
        )
        os.chmod(work / "server.key", 0o600)
        config = (
            'queue_messages_max = 1\n[[listener]]\nname = "plain"\nport = 0\nbind = ["127.0.0.1"]\n'
            '[[listener]]\nname = "tls"\nport = 0\nbind = ["127.0.0.1"]\n[listener.tls]\n'
            f'certificates = [{{ chain = "{work}/server.pem", key = "{work}/server.key" }}]\n'
            '[admin]\nbind = "127.0.0.1:0"\n'
        )
        broker = Broker(work / "broker", config, 2, listeners=2)
        (work / "prometheus").mkdir()
        prometheus = Prometheus(work / "prometheus", broker.admin)
        try:
            judge_names(judge_text(broker))
            reader = Client(broker.port, "reader")
            reader.subscribe("b")
            reader.publish("b")
            judge_board(prometheus)
            judge_alerts(prometheus, broker, work)
        finally:
            prometheus.end()
            if broker.process.poll() is None:
                broker.end()
        judge_figures(work)
    for failure in failures:
        print("FAILED", failure)
    print(f"{passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


main()
