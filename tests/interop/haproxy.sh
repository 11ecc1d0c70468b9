#!/usr/bin/env bash
# HAProxy in front of the broker: PROXY v2 and v1 for MQTT, X-Forwarded-For for WebSocket. Usage: haproxy.sh install|HOST PORT.
# PROXIED_PORT and FORWARDED_PORT are the listeners behind it, and BROKER_LOG is the broker's log, which must name each client by its
# own address.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
source "$here/common.sh"
PATH=$PATH:/usr/sbin
need haproxy haproxy
need mosquitto_sub mosquitto-clients
"$here/mqttjs/run" install
if [ "$1" = install ]; then exit; fi

host=$1
scope=haproxy-$$
# The clients' address, which no listener trusts.
client=127.0.0.9
work=$(mktemp -d)
proxy=
trap 'if [ -n "$proxy" ]; then kill "$proxy" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
read -r v2 v1 http < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(3)]
for one in sockets: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))')
cat >"$work/haproxy.cfg" <<CONFIG
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen v2
    mode tcp
    bind 127.0.0.1:$v2
    # The checks of its health begin with a header of their own, LOCAL.
    server broker $host:$PROXIED_PORT send-proxy-v2 check check-send-proxy inter 200ms
listen v1
    mode tcp
    bind 127.0.0.1:$v1
    server broker $host:$PROXIED_PORT send-proxy
listen http
    mode http
    option forwardfor
    bind 127.0.0.1:$http
    server broker $host:$FORWARDED_PORT
CONFIG
haproxy -db -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
proxy=$!
for _ in $(seq 100); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$http") 2>/dev/null; then break; fi
    sleep 0.05
done

# named IDENTIFIER: the broker's log names the client by its own address.
named() {
    await "$BROKER_LOG" "client=\"$1\""
    grep -F "client connected client=\"$1\"" "$BROKER_LOG" | grep -qF "peer=$client:" ||
        { grep -F "client=\"$1\"" "$BROKER_LOG"; return 1; }
}

# round_trip NAME PORT: a message there and back through the proxy, from the clients' address.
round_trip() {
    stdbuf -oL mosquitto_sub -A "$client" -h 127.0.0.1 -p "$2" -i "$scope-$1-sub" -q 1 -t "$scope/$1" -C 1 -W 20 -d >"$work/$1" 2>&1 &
    children+=($!)
    local subscriber=$!
    await "$work/$1" "Subscribed"
    mosquitto_pub -A "$client" -h 127.0.0.1 -p "$2" -i "$scope-$1-pub" -q 1 -t "$scope/$1" -m "through $1"
    wait "$subscriber"
    await "$work/$1" "through $1"
    named "$scope-$1-sub"
    named "$scope-$1-pub"
}

# over_http: a WebSocket through the proxy, whose X-Forwarded-For names the client.
over_http() {
    NODE_PATH=$installed/mqttjs/node_modules node -e '
const mqtt = require("mqtt");
const [port, clientId, localAddress] = process.argv.slice(1);
const client = mqtt.connect(`ws://127.0.0.1:${port}/mqtt`, { clientId, reconnectPeriod: 0, wsOptions: { localAddress } });
client.on("error", (error) => { console.error(error); process.exit(1); });
client.on("message", () => client.end(false, {}, () => process.exit(0)));
client.subscribe(clientId, () => client.publish(clientId, "x"));
setTimeout(() => { console.error("too slow"); process.exit(1); }, 20000);
' "$http" "$scope-http" "$client"
    named "$scope-http"
}

check "PROXY v2" round_trip v2 "$v2"
check "PROXY v1" round_trip v1 "$v1"
check "X-Forwarded-For" over_http
finish "HAProxy $(haproxy -v | sed -nE '1s/.*version ([^ ]+).*/\1/p')"
