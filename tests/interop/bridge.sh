#!/usr/bin/env bash
# Debian's mosquitto as a bridge, at its defaults, towards the broker at HOST PORT: in all three versions, messages both ways.
# Usage: bridge.sh install|HOST PORT. Prints "mosquitto bridge VERSION: N passed, M failed".
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
source "$here/common.sh"
PATH=$PATH:/usr/sbin
need mosquitto_sub mosquitto-clients
need mosquitto mosquitto
if [ "$1" = install ]; then exit; fi
host=$1
port=$2
export LC_ALL=C

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# listen NAME PORT ARGUMENTS…: a subscriber in the background, whose output is $work/NAME; returns once it is subscribed.
listen() {
    local name=$1 port=$2
    shift 2
    rm -f "$work/$name"
    stdbuf -oL mosquitto_sub -h "$host" -p "$port" -d -W 30 -F 'got %r %q %t %p' "$@" >"$work/$name" 2>&1 &
    children+=($!)
    await "$work/$name" 'Subscribed (mid'
}

# messages NAME COUNT: the first COUNT messages of a subscriber, sorted, in $got.
messages() {
    for _ in $(seq 400); do
        got=$(sed -n 's/^got //p' "$work/$1" | sort)
        if [ "$(grep -c . <<<"$got")" -ge "$2" ]; then return; fi
        sleep 0.05
    done
}

# bridge VERSION SCOPE: mosquitto on a free port, which is in $local_port, bridged to the broker.
bridge() {
    local attempt
    for attempt in $(seq 20); do
        local_port=$((20000 + (RANDOM + attempt) % 8000))
        cat >"$work/bridge.conf" <<CONF
listener $local_port $host
allow_anonymous true
persistence false
log_type all
connection $2
address $host:$port
bridge_protocol_version $1
topic # both 2 $2/here/ $2/there/
CONF
        mosquitto -c "$work/bridge.conf" >"$work/log" 2>&1 &
        mosquitto=$!
        children+=("$mosquitto")
        # A port in use ends it, and so does none of its other faults in this time.
        sleep 0.2
        if kill -0 "$mosquitto" 2>/dev/null; then break; fi
    done
    await "$work/log" "Received CONNACK on connection local."
}

both_ways() { # version
    local scope="bridge-$1-$$" qos
    bridge "$1" "$scope"
    listen state "$port" -t "\$SYS/broker/connection/+/state" -q 1
    await "$work/state" ".$scope/state 1"
    listen there "$port" -t "$scope/there/#" -q 2
    listen here "$local_port" -t "$scope/here/#" -q 2
    for qos in 0 1 2; do
        mosquitto_pub -h "$host" -p "$local_port" -t "$scope/here/up" -q "$qos" -m "$qos"
        mosquitto_pub -h "$host" -p "$port" -t "$scope/there/down" -q "$qos" -m "$qos"
        mosquitto_pub -h "$host" -p "$local_port" -t "$scope/here/kept-up/$qos" -q "$qos" -r -m "$qos"
        mosquitto_pub -h "$host" -p "$port" -t "$scope/there/kept-down/$qos" -q "$qos" -r -m "$qos"
    done
    # Each side has all of them once: nothing comes back to the bridge, or it would go round.
    for side in here there; do
        messages "$side" 12
        equal "$got" "$(for qos in 0 1 2; do
            echo "0 $qos $scope/$side/down $qos"
            echo "0 $qos $scope/$side/kept-down/$qos $qos"
            echo "0 $qos $scope/$side/kept-up/$qos $qos"
            echo "0 $qos $scope/$side/up $qos"
        done | sort)"
    done
    # A message that was retained on one side is retained on the other.
    listen there_later "$port" -t "$scope/there/kept-up/+" -q 2
    listen here_later "$local_port" -t "$scope/here/kept-down/+" -q 2
    messages there_later 3
    equal "$got" "$(for qos in 0 1 2; do echo "1 $qos $scope/there/kept-up/$qos $qos"; done)"
    messages here_later 3
    equal "$got" "$(for qos in 0 1 2; do echo "1 $qos $scope/here/kept-down/$qos $qos"; done)"
    # Its will says that it is gone.
    kill -KILL "$mosquitto"
    await "$work/state" ".$scope/state 0"
}

for version in mqttv31 mqttv311 mqttv50; do
    check "bridge, $version" both_ways "$version"
done
version=$(mosquitto -h 2>/dev/null | sed -nE 's/^mosquitto version ([0-9.]+).*/\1/p' || true)
finish "mosquitto bridge $version"
