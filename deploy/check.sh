#!/usr/bin/env bash
# Checks the files of this directory with the tools that read them in service: `deploy/check.sh BINARY`.
# Needs systemd-analyze (Debian: apt-get install systemd), python3 with venv, and PyPI at the first time: the schemas of compose files and
# of Kubernetes are kept below target/. Changes nothing else on this machine.
set -euo pipefail

binary=$(realpath "${1:?usage: deploy/check.sh BINARY}")
cd "$(dirname "$0")"
# shellcheck source=tests/interop/common.sh
source ../tests/interop/common.sh
scratch=$(mktemp -d)
end() {
  if [ -e "$scratch/pid" ]; then kill "$(cat "$scratch/pid")" 2>/dev/null || true; fi
  rm -rf "$scratch"
}
trap end EXIT

# `verify` requires that the binary exists. On this machine it is at another path.
unit="$scratch/mqtt-broker.service"
sed "s|^ExecStart=.*|ExecStart=$binary|" systemd/mqtt-broker.service >"$unit"
said=$(systemd-analyze verify "$unit" 2>&1 | grep -F mqtt-broker.service || true)
if [ -n "$said" ]; then
  printf '%s\n' "$said" >&2
  exit 1
fi
# A broker that a signal ended from elsewhere would stay dead with any other value.
grep -qx 'Restart=always' systemd/mqtt-broker.service || { echo "systemd: Restart=always is missing" >&2; exit 1; }
# The exposure in tenths, from 0 (closed) to 100 (open). The rest is the network itself.
systemd-analyze security --offline=yes --threshold=20 --no-pager systemd/mqtt-broker.service | tail -n 1

"$binary" config check broker.conf
grep -Evq '^(#.*|mqtt (soft|hard) nofile [0-9]+)?$' limits/mqtt-broker.conf && { echo "limits: not in the form of limits.conf" >&2; exit 1; }
grep -Evq '^(#.*|[a-z0-9_.]+ = [0-9]+)?$' sysctl/90-mqtt-broker.conf && { echo "sysctl: not in the form of sysctl.conf" >&2; exit 1; }
python3 - launchd/org.mqtt-broker.plist windows/mqtt-broker-service.xml <<'PYTHON'
import plistlib, sys, xml.dom.minidom
with open(sys.argv[1], "rb") as plist:
    assert plistlib.load(plist)["ProgramArguments"] == ["/opt/mqtt-broker/mqtt-broker"]
assert xml.dom.minidom.parse(sys.argv[2]).documentElement.tagName == "service"
PYTHON

# --- containers -----------------------------------------------------------------------------------------------------------------------
venv=$installed/deploy
wanted="check-jsonschema==0.39.0 kubernetes-validate==1.37.0"
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv" >/dev/null 2>&1 || { rm -rf "$venv"; install python3-venv; python3 -m venv "$venv"; }
  # shellcheck disable=SC2086 # Two packages.
  "$venv/bin/pip" --quiet --disable-pip-version-check install $wanted
  printf '%s' "$wanted" >"$venv/installed"
fi
"$venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec docker/compose.yml
"$venv/bin/kubernetes-validate" --strict kubernetes/mqtt-broker.yml
"$binary" config check docker/compose.conf
"$venv/bin/python" - kubernetes/mqtt-broker.yml docker/compose.yml "$scratch" <<'PYTHON'
import os, sys, yaml
documents = {(document["kind"], document["metadata"]["name"]): document for document in yaml.safe_load_all(open(sys.argv[1]))}
broker = documents["StatefulSet", "mqtt-broker"]["spec"]["template"]
labels, pod = broker["metadata"]["labels"], broker["spec"]
container = pod["containers"][0]
ports = {port["name"] for port in container["ports"]}
for kind, name in [("Service", "mqtt-broker"), ("Service", "mqtt-broker-pods")]:
    service = documents[kind, name]["spec"]
    assert service["selector"].items() <= labels.items(), name
    assert {port["targetPort"] for port in service["ports"]} <= ports, name
assert all(container[probe]["httpGet"]["port"] in ports for probe in ("startupProbe", "livenessProbe", "readinessProbe"))
drain = container["lifecycle"]["preStop"]["exec"]["command"]
assert int(drain[drain.index("--timeout") + 1]) + 20 < pod["terminationGracePeriodSeconds"]
# The configuration is checked with the file of users where the secret would be.
text = documents["ConfigMap", "mqtt-broker"]["data"]["broker.conf"].replace("/run/secrets/mqtt-broker", sys.argv[3])
open(os.path.join(sys.argv[3], "kubernetes.conf"), "w").write(text)
compose = yaml.safe_load(open(sys.argv[2]))["services"]["mqtt-broker"]
assert all(port.startswith("127.0.0.1:") for port in compose["ports"])
open(os.path.join(sys.argv[3], "drain"), "w").write(" ".join(drain[1:]))
PYTHON
"$binary" user --file "$scratch/passwords" add device --device >/dev/null
"$binary" config check "$scratch/kubernetes.conf"

# --- a unit for each host: installed, upgraded, and taken back ------------------------------------------------------------------------------
# This machine is the host, in a directory of its own. Only the service manager and the way to the host are stand-ins.
export ROOT=$scratch/root WAIT=3 SUDO=env SSH=$scratch/ssh
MQTT_USER=$(id -un)
export MQTT_USER PATH="$scratch/bin:$PATH"
mkdir -p "$scratch/bin" "$ROOT"
printf '#!/bin/sh\nshift\nexec sh -c "$1"\n' >"$SSH"
cat >"$scratch/bin/systemctl" <<'SYSTEMCTL'
#!/bin/bash
pid=$(dirname "$0")/../pid
case $1 in
  is-active) kill -0 "$(cat "$pid" 2>/dev/null)" 2>/dev/null ;;
  restart)
    if "$0" is-active; then kill "$(cat "$pid")"; while "$0" is-active; do sleep 0.1; done; fi
    cd "$ROOT/opt/mqtt-broker"
    setsid ./mqtt-broker >>"$pid.log" 2>&1 </dev/null &
    echo $! >"$pid"
    ;;
esac
SYSTEMCTL
chmod +x "$SSH" "$scratch/bin/systemctl"
printf 'bind = ["127.0.0.1"]\nport = 0\n[admin]\nbind = "off"\n' >"$scratch/good.conf"
hosts/roll "$binary" "$scratch/good.conf" host | grep -qx "mqtt-broker .* serves"
first=$(cat "$scratch/pid")
DRAIN="--timeout 5" hosts/roll "$binary" "$scratch/good.conf" host >/dev/null
second=$(cat "$scratch/pid")
[ "$first" != "$second" ] && grep -q "the broker is drained" "$scratch/pid.log"
# A fault in the configuration changes nothing; one that only the start finds is taken back.
printf 'port = "none"\n' >"$scratch/bad.conf"
if hosts/roll "$binary" "$scratch/bad.conf" host >/dev/null 2>&1; then echo "hosts: a fault was installed" >&2; exit 1; fi
[ "$(cat "$scratch/pid")" = "$second" ]
{ printf 'log_dir = "/proc/none"\n'; cat "$scratch/good.conf"; } >"$scratch/bad.conf"
said=$(DRAIN=off hosts/roll "$binary" "$scratch/bad.conf" host other 2>&1) && { echo "hosts: a broker that does not start was kept" >&2; exit 1; }
grep -q "the version before serves again" <<<"$said"
if grep -q "=== other" <<<"$said"; then echo "hosts: the next host was changed after a fault" >&2; exit 1; fi
echo "deploy: ok"
