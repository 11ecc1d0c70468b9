#!/usr/bin/env bash
# The commands of deploy/README.md, "Secure it in five minutes", as they are written, with a port of the test's own on loopback.
# Usage: secure.sh [BINARY]; without it the release binary of this checkout.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
source "$here/common.sh"
need mosquitto_sub mosquitto-clients
need openssl openssl
binary=$(realpath "${1-${CARGO_TARGET_DIR:-$here/../../target}/release/mqtt-broker}")
manual=$(realpath "$here/../../deploy/README.md")

work=$(mktemp -d)
# shellcheck disable=SC2317  # The trap calls it.
cleanup() {
    if [ -s "$work/process" ]; then
        kill "$(cat "$work/process")" 2>/dev/null || true
        # It writes its files until it ends.
        for _ in $(seq 100); do kill -0 "$(cat "$work/process")" 2>/dev/null || break; sleep 0.1; done
    fi
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
mkdir bin run
ln -s "$binary" bin/mqtt-broker

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# The shell blocks of the section.
sed -n '/^## Secure it in five minutes$/,/^## Run under systemd$/p' "$manual" | sed -n '/^```sh$/,/^```$/p' | grep -v '^```' >page
[ "$(grep -c . page)" -gt 30 ] || { echo "the section has no commands" >&2; exit 1; }
sed -i -e "s/8883/$port/g" -e 's/0\.0\.0\.0/127.0.0.1/' -e 's/^\(mqtt-broker --config broker.conf\) &$/\1 >log 2>\&1 \& echo $! >..\/process/' page
grep -q '>log' page || { echo "the section starts no broker" >&2; exit 1; }
cd run
printf 'a password of alice\n' | PATH="$work/bin:$PATH" PASSWORD_OF_ALICE='a password of alice' timeout 60 bash -euo pipefail ../page >../out 2>../err || {
    cat ../out ../err log >&2
    exit 1
}
grep -qx '21.5' ../out || { echo "the message of the device did not arrive" >&2; cat ../out ../err log >&2; exit 1; }
grep -q '^deny' ../out
echo "secure it in five minutes: passed"
