#!/usr/bin/env bash
# Checks the files of this directory with the tools that read them in service: `deploy/check.sh BINARY`.
# Needs systemd-analyze (Debian: apt-get install systemd) and python3; changes nothing on this machine.
set -euo pipefail

binary=$(realpath "${1:?usage: deploy/check.sh BINARY}")
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

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
echo "deploy: ok"
