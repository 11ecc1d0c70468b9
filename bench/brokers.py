"""How each broker under comparison is started on a free port of loopback, and stopped by its process.

Knows no scenario. Every file of bench/peers is copied into the broker's directory first, with PORT, PORT2, PORT3 and DIR written over by
free ports and that directory. What a package registry installs is looked for on the PATH, in /usr/sbin and in target/peers (see
bench/peers/README.md); nothing is started as a service and nothing is left running.
"""
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import subprocess
import ssl
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TARGET = BUILD / "release"
PEERS = BUILD / "peers"
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", str(PEERS / "bin")])
# `OURS` has no level of durability: each command that is made of it says one. Those below keep no log, as in every comparison before there
# was one, and as the others keep none.
SERVED = f"{TARGET}/mqtt-broker --data-dir {{dir}}/data --stats-interval 0"
OURS = f"{SERVED} --config {{dir}}/none.conf --bind 127.0.0.1 --port {{port}}"
MEMORY = "--durability memory"

COMMANDS = {
    "uring": f"{OURS} {MEMORY} --shards 1 --io uring",
    "epoll": f"{OURS} {MEMORY} --shards 1 --io epoll",
    # Two shards, on the core of a single shard, or on both cores, including the generator's. They report a client's shard, so that the
    # generator can choose identifiers.
    "two": f"{OURS} {MEMORY} --shards 2 --tell-shard true",
    "spread": f"{OURS} {MEMORY} --shards 2 --tell-shard true",
    # One shard whose clients connect by WebSocket, on io_uring and on epoll.
    **{
        f"websocket-{io}": f"{SERVED} --config {{dir}}/websocket.conf {MEMORY} --shards 1 --io {io}"
        for io in ("uring", "epoll")
    },
    # No broker: the kernel's cost of the same bytes on the same sockets.
    "bare": f"{TARGET}/runtimes-bare --scenario mqtt --port {{port}} --seconds-max 600",
    # The least broker without a runtime, by its way of waiting, receiving and sending.
    **{
        f"edge-{way}": f"{TARGET}/runtimes-edge --way {way} --port {{port}} --seconds-max 600"
        for way in ("one-shot", "multishot", "buffers", "epoll")
    },
    # With TLS 1.3 and a certificate of ECDSA.
    "uring-tls": f"{SERVED} --config {{dir}}/broker-tls.toml {MEMORY} --shards 1 --io uring",
    "epoll-tls": f"{SERVED} --config {{dir}}/broker-tls.toml {MEMORY} --shards 1 --io epoll",
    "mosquitto-tls": "mosquitto -c {dir}/mosquitto-tls.conf",
    "mosquitto": "mosquitto -c {dir}/mosquitto.conf",
    "mosquitto-websocket": "mosquitto -c {dir}/mosquitto-websocket.conf",
    "rumqttd": "rumqttd -c {dir}/rumqttd.toml",
    "rmqttd": "rmqttd -f {dir}/rmqttd.toml",
    "nats": "nats-server -c {dir}/nats.conf",
    "rabbitmq": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "aedes": "node {dir}/aedes.mjs",
}
OWN = ("uring", "epoll", "uring-tls", "epoll-tls", "two", "spread", "websocket-uring", "websocket-epoll", "bare", "edge-one-shot", "edge-multishot", "edge-buffers", "edge-epoll")
# Additional flags of the generator: rumqttd refuses clients without a keep alive.
LOAD_FLAGS = {
    "rumqttd": ["--keep-alive-s", "3600"],
    **{name: ["--websocket"] for name in ("websocket-uring", "websocket-epoll", "mosquitto-websocket")},
}


class Broker:
    """One broker under comparison: its command, and its running process."""

    def __init__(self, text):
        self.name, _, command = text.partition("=")
        self.command = command or COMMANDS.get(self.name) or sys.exit(f"no broker is called {self.name}: give NAME=COMMAND")
        self.is_own = self.name in OWN or bool(command)
        self.pins = self.name != "spread"
        self.load_flags = LOAD_FLAGS.get(self.name, [])
        self.process = self.helper = None

    def is_installed(self):
        """Whether its program and the files that it loads are installed."""
        if self.name == "aedes" and not (PEERS / "aedes/node_modules/aedes").is_dir():
            return False
        return shutil.which(shlex.split(self.command)[0], path=PATH) is not None

    def start(self, directory):
        self.port, *others = free_ports(3)
        (directory / "none.conf").touch()
        for template in (ROOT / "bench/peers").iterdir():
            if template.suffix != ".md":
                text = template.read_text().replace("PORT2", str(others[0])).replace("PORT3", str(others[1]))
                text = text.replace("PORT", str(self.port)).replace("DIR", str(directory))
                (directory / template.name).write_text(text)
        has_tls = self.name.endswith("-tls")
        if has_tls:
            make_certificate(directory)
            self.load_flags = ["--tls", f"{directory}/tls.pem"]
        log = open(directory / "log", "wb")
        environment = {**os.environ, "PATH": PATH}
        if self.name == "aedes":
            (directory / "node_modules").symlink_to(PEERS / "aedes/node_modules")
        if self.name == "rabbitmq":
            environment |= rabbitmq_environment(directory, others)
            # Erlang would start epmd by itself and leave it running.
            epmd = ["epmd", "-port", str(others[1]), "-address", "127.0.0.1"]
            self.helper = subprocess.Popen(epmd, stdout=log, stderr=log, env=environment, cwd=directory)
        command = shlex.split(self.command.format(port=self.port, dir=directory))
        if self.pins:
            command = ["taskset", "-c", "0", *command]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=directory)
        # RabbitMQ takes a quarter of a minute on one core of its own, and longer on a shared one.
        end = time.monotonic() + 90
        while time.monotonic() < end and self.process.poll() is None:
            # A listener of WebSocket answers no bare CONNECT; the other one of that broker does.
            if is_serving(others[0] if "websocket" in self.name else self.port, has_tls):
                return
            time.sleep(0.05)
        self.stop()
        sys.exit(f"{self.name} did not start:\n{(directory / 'log').read_text(errors='replace')[-2000:]}")

    def stop(self):
        for process in (self.process, self.helper):
            if process and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.process = self.helper = None


def named(text):
    """The brokers of a list; `installed` means ours and every installed peer, mosquitto last."""
    names = []
    for name in text.split(","):
        if name == "installed":
            peers = [peer for peer in COMMANDS if peer not in OWN and not peer.startswith("mosquitto")]
            names += ["uring", "epoll", *(peer for peer in peers if Broker(peer).is_installed()), "mosquitto"]
        else:
            names.append(name)
    return [Broker(name) for name in dict.fromkeys(names)]


def free_ports(count):
    """Free ports below the range of outgoing connections."""
    ports = set()
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                ports.add(port)
            except OSError:
                continue
    return list(ports)


def make_certificate(directory):
    """A certificate for 127.0.0.1, of itself."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout tls.key -out tls.pem -subj /CN=bench"
    extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*command.split(), *extensions], cwd=directory, check=True, stderr=subprocess.DEVNULL)
    (directory / "tls.key").chmod(0o644)


def is_serving(port, has_tls=False):
    """Whether a CONNECT is answered: some brokers listen before they are ready."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            client = plain
            if has_tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                client = context.wrap_socket(plain)
            client.sendall(b"\x10\x11\0\x04MQTT\x04\x02\x0e\x10\0\x05ready")
            return client.recv(4)[:1] == b"\x20"
    except OSError:
        return False


def rabbitmq_environment(directory, ports):
    return {
        # Replaces the shell that starts it, so that the process is the broker.
        "RUNNING_UNDER_SYSTEMD": "1",
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"bench{ports[0]}@localhost",
        "RABBITMQ_DIST_PORT": str(ports[0]),
        "ERL_EPMD_PORT": str(ports[1]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -setcookie bench",
        "RABBITMQ_MNESIA_BASE": f"{directory}/mnesia",
        "RABBITMQ_LOG_BASE": f"{directory}/logs",
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": f"{directory}/pid",
        "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{directory}/none.config",
        "RABBITMQ_CONF_ENV_FILE": f"{directory}/none-env.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
    }
