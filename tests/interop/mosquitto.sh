#!/usr/bin/env bash
# mosquitto_pub, mosquitto_sub and mosquitto_rr of Debian against the broker at HOST PORT.
# Usage: mosquitto.sh install|HOST PORT. Prints "mosquitto VERSION: N passed, M failed".
# Round trips, not floods: version 2.0.11 stalls when thousands of QoS 1 messages come fast.
# Each mosquitto_pub is a client of its own: between two of them no order is promised, and none is judged.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
source "$here/common.sh"
need mosquitto_sub mosquitto-clients
if [ "$1" = install ]; then exit; fi
host=$1
port=$2
# Diagnostics of the clients are recognised by their English text.
export LC_ALL=C

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# listen NAME ARGUMENTS…: a subscriber in the background whose output is $work/NAME; returns once it is subscribed.
listen() {
    local name=$1
    shift
    # What an earlier subscriber of this name was told must not be taken for its own.
    rm -f "$work/$name"
    stdbuf -oL mosquitto_sub -h "$host" -p "$port" -d -W 30 "$@" >"$work/$name" 2>&1 &
    children+=($!)
    eval "pid_$name=$!"
    await "$work/$name" 'Subscribed (mid'
}

send() { mosquitto_pub -h "$host" -p "$port" "$@"; }

# collect NAME: waits for a subscriber that ends by itself (-C); its payloads are in $got, without diagnostics.
collect() {
    local pid="pid_$1"
    wait "${!pid}"
    got=$(grep -vE '^(Client |Subscribed )' "$work/$1" || true)
}

round_trip() { # version qos
    listen out -V "$1" -t "mosq/$1/$2" -q "$2" -C 1
    send -V "$1" -t "mosq/$1/$2" -q "$2" -m "Hello MQTT"
    collect out
    equal "$got" "Hello MQTT"
}

retained() {
    send -V "$1" -t "mosq/$1/kept" -q 1 -r -m "first"
    send -V "$1" -t "mosq/$1/kept" -q 1 -r -m "second"
    listen out -V "$1" -t "mosq/$1/kept" -q 1 -C 1 -F '%r %p'
    collect out
    equal "$got" "1 second"
    send -V "$1" -t "mosq/$1/kept" -q 1 -r -n
    listen out -V "$1" -t "mosq/$1/kept" -q 1 -C 1 -F '%r %p'
    send -V "$1" -t "mosq/$1/kept" -q 1 -m "live"
    collect out
    equal "$got" "0 live"
}

will() {
    listen out -V "$1" -t "mosq/$1/will" -q 1 -C 2
    # A client that says goodbye has no will to execute.
    send -V "$1" -t "mosq/$1/will" -q 1 -m "before" --will-topic "mosq/$1/will" --will-payload "wrong"
    local pid_mortal
    listen mortal -V "$1" -t "mosq/$1/other" --will-topic "mosq/$1/will" --will-payload "gone" --will-qos 1
    kill -KILL "$pid_mortal"
    collect out
    equal "$(sort <<<"$got")" $'before\ngone'
}

wildcard() {
    listen out -V "$1" -t "mosq/$1/+/x" -t "mosq/$1/tree/#" -q 0 -C 3 -F '%t'
    send -V "$1" -t "mosq/$1/no/y" -m 1
    send -V "$1" -t "mosq/$1/a/x" -m 1
    send -V "$1" -t "mosq/$1/tree" -m 1
    send -V "$1" -t "mosq/$1/tree/b/c" -m 1
    collect out
    equal "$(sort <<<"${got//"mosq/$1/"/}")" $'a/x\ntree\ntree/b/c'
}

persistent() {
    local id="mosq-$1-keeper" expiry=() qos
    if [ "$1" = mqttv5 ]; then expiry=(-x 600); fi
    mosquitto_sub -h "$host" -p "$port" -V "$1" -i "$id" -c "${expiry[@]}" -t "mosq/$1/queue" -q 2 -E
    for qos in 1 2; do
        seq -f "$qos-%g" 60 | send -V "$1" -t "mosq/$1/queue" -q "$qos" -l
    done
    # Ends by itself after the last of them.
    mosquitto_sub -h "$host" -p "$port" -V "$1" -i "$id" -c "${expiry[@]}" -t "mosq/$1/queue" -q 2 -C 120 -W 30 >"$work/queue"
    for qos in 1 2; do
        equal "$(grep "^$qos-" "$work/queue")" "$(seq -f "$qos-%g" 60)"
    done
    # A clean start removes the session again.
    mosquitto_sub -h "$host" -p "$port" -V "$1" -i "$id" -t "mosq/$1/queue" -E
}

large() { # version qos
    head -c 1048576 /dev/urandom >"$work/large"
    mosquitto_sub -h "$host" -p "$port" -V "$1" -t "mosq/$1/large/$2" -q "$2" -C 1 -W 30 -N >"$work/copy" &
    local pid=$!
    children+=("$pid")
    # It tells nothing of its subscription when its output is the payload alone: a message is sent until it has ended.
    for _ in $(seq 100); do
        send -V "$1" -t "mosq/$1/large/$2" -q "$2" -f "$work/large"
        if ! kill -0 "$pid" 2>/dev/null; then break; fi
        sleep 0.1
    done
    wait "$pid"
    cmp "$work/large" "$work/copy"
}

many() { # version qos: more than twenty in flight
    local aliases=()
    # mosquitto_sub ends with a protocol error at an alias, although it permits them here.
    if [ "$1" = mqttv5 ]; then aliases=(-D connect topic-alias-maximum 10); fi
    listen out -V "$1" "${aliases[@]}" -t "mosq/$1/many" -q "$2" -C 300
    seq 1 300 | send -V "$1" -t "mosq/$1/many" -q "$2" -l
    collect out
    equal "$got" "$(seq 1 300)"
}

shared() {
    local member
    for member in a b c; do
        # shellcheck disable=SC2016  # The dollar belongs to the filter.
        listen "member_$member" -V mqttv5 -t '$share/mosq/mosq/shared' -q 1 -C 20
    done
    seq 1 60 | send -V mqttv5 -t mosq/shared -q 1 -l
    for member in a b c; do
        collect "member_$member"
        echo "$got" >>"$work/shared"
    done
    equal "$(sort -n "$work/shared")" "$(seq 1 60)"
}

properties() {
    listen out -V mqttv5 -t mosq/properties -q 1 -C 1 -F '%A|%C|%E|%P|%R|%p'
    send -V mqttv5 -t mosq/properties -q 1 -m text -D publish content-type text/plain \
        -D publish message-expiry-interval 60 -D publish response-topic answer/here \
        -D publish user-property key value
    collect out
    case $got in
        *'|text/plain|60|key:value|answer/here|text' | *'|text/plain|59|key:value|answer/here|text') ;;
        *) echo "got: $got"; return 1 ;;
    esac
}

request_response() { # version
    listen request -V "$1" -t "mosq/$1/request" -q 1 -C 1
    stdbuf -oL mosquitto_rr -h "$host" -p "$port" -V "$1" -t "mosq/$1/request" -e "mosq/$1/answer" -q 1 -m ping -W 30 \
        >"$work/answer" 2>&1 &
    local pid=$!
    children+=("$pid")
    collect request
    equal "$got" ping
    send -V "$1" -t "mosq/$1/answer" -q 1 -m pong
    wait "$pid"
    equal "$(cat "$work/answer")" pong
}

for version in mqttv31 mqttv311 mqttv5; do
    for qos in 0 1 2; do
        check "round trip, $version, QoS $qos" round_trip "$version" "$qos"
    done
done
for version in mqttv311 mqttv5; do
    check "retained, $version" retained "$version"
    check "will, $version" will "$version"
    check "wildcards, $version" wildcard "$version"
    check "persistent session, $version" persistent "$version"
    check "request and response, $version" request_response "$version"
    for qos in 0 1 2; do check "1 MiB, $version, QoS $qos" large "$version" "$qos"; done
    for qos in 1 2; do check "300 in a row, $version, QoS $qos" many "$version" "$qos"; done
done
check "shared subscription, mqttv5" shared
check "properties, mqttv5" properties
# "mosquitto_sub version 2.0.11 running on libmosquitto 2.0.11."
version=$({ mosquitto_sub --help || true; } | sed -nE 's/^mosquitto_sub version ([0-9.]+) .*/\1/p')
finish "mosquitto $version"
