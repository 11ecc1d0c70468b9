#!/usr/bin/env bash
# openssl s_client, mosquitto_pub, mosquitto_sub, paho-mqtt and rumqttc over TLS against a broker of this script's own, on each driver that
# has TLS; and sslyze and testssl.sh, which look for what TLS has been attacked by.
# Usage: tls.sh [BINARY]; without it the release binary of this checkout. Prints "TLS on DRIVER: N passed, M failed" for each.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
source "$here/common.sh"
need mosquitto_sub mosquitto-clients
need openssl openssl
need testssl testssl.sh
"$here/python/run" paho-2 install
"$here/python/run" sslyze install
"$here/rumqttc/run" install
rumqttc=$(realpath "${CARGO_TARGET_DIR:-$here/../../target}/debug/examples/rumqttc")
binary=$(realpath "${1-${CARGO_TARGET_DIR:-$here/../../target}/release/mqtt-broker}")
export LC_ALL=C

work=$(mktemp -d)
broker=
# shellcheck disable=SC2317  # The trap calls it.
cleanup() {
    if [ -n "$broker" ]; then kill -KILL "$broker" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

# authority NAME: NAME.pem and NAME.key, which may sign.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout "$1.key" -out "$1.pem" -subj "/CN=$1" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
    mkdir -p "$1"
    : >"$1/index"
    echo 01 | tee "$1/serial" >"$1/number"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s/index\nserial=%s/serial\nnew_certs_dir=%s\ndefault_md=sha256\ndefault_crl_days=30\nunique_subject=no\npolicy=p\ncrlnumber=%s/number\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n[p]\ncommonName=supplied\n' \
        "$1" "$1" "$1" "$1" >"$1/config"
}

# certificate AUTHORITY NAME COMMON_NAME ALTERNATIVE_NAMES [KIND]: NAME.pem and NAME.key.
certificate() {
    local kind=${5-ec}
    local options=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1)
    if [ "$kind" = rsa ]; then options=(-newkey rsa:2048); fi
    openssl req "${options[@]}" -nodes -keyout "$2.key" -out "$2.csr" -subj "/CN=$3" 2>/dev/null
    printf 'basicConstraints=CA:FALSE\nsubjectAltName=%s\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' \
        "$4" >"$2.ext"
    openssl ca -batch -config "$1/config" -cert "$1.pem" -keyfile "$1.key" -in "$2.csr" -out "$2.pem" -days 20 -extfile "$2.ext" -notext 2>/dev/null
}

authority ca
certificate ca server localhost DNS:localhost,IP:127.0.0.1
certificate ca rsa localhost DNS:localhost,IP:127.0.0.1 rsa
certificate ca other other.example DNS:other.example,DNS:*.wild.example
certificate ca good device-1 DNS:device-1
certificate ca revoked device-2 DNS:device-2
authority foreign
certificate foreign stranger device-3 DNS:device-3
openssl ca -config ca/config -cert ca.pem -keyfile ca.key -revoke revoked.pem 2>/dev/null
openssl ca -config ca/config -cert ca.pem -keyfile ca.key -gencrl -out ca.crl 2>/dev/null
cat >broker.conf <<'END'
[[listener]]
name = "open"
bind = ["127.0.0.1"]
port = 0
[listener.tls]
certificates = [{ chain = "server.pem", key = "server.key" }, { chain = "rsa.pem", key = "rsa.key" }, { chain = "other.pem", key = "other.key" }]
[[listener]]
name = "certified"
bind = ["127.0.0.1"]
port = 0
[listener.tls]
certificates = [{ chain = "server.pem", key = "server.key" }]
client_ca = "ca.pem"
client_certificate = "require"
crl = ["ca.crl"]
END

# start IO SHARDS: ports in $open and $certified.
start() {
    rm -rf data
    "$binary" --config broker.conf --data-dir data --io "$1" --shards "$2" --stats-interval 0 >log 2>&1 &
    broker=$!
    await log "listening on"
    await log "only this machine" || true
    for _ in $(seq 200); do
        mapfile -t ports < <(sed -nE 's/.*listening on 127\.0\.0\.1:([0-9]+).*/\1/p' log)
        if [ "${#ports[@]}" -eq 2 ]; then break; fi
        sleep 0.05
    done
    open=${ports[0]} certified=${ports[1]}
}

stop() {
    kill -TERM "$broker"
    wait "$broker"
    broker=
}

# client PORT FLAGS…: what openssl s_client says about a handshake.
client() {
    local port=$1
    shift
    # The pause leaves time for the tickets.
    (sleep 0.3; echo Q) | openssl s_client -connect "localhost:$port" -CAfile ca.pem "$@" 2>&1 || true
}

has() { grep -qE -- "$2" <<<"$1" || { printf 'no "%s" in:\n%s\n' "$2" "$1"; return 1; }; }
lacks() { if grep -qE -- "$2" <<<"$1"; then printf '"%s" in:\n%s\n' "$2" "$1"; return 1; fi; }

versions() {
    for version in tls1_2 tls1_3; do
        has "$(client "$open" "-$version")" 'Verify return code: 0|Verification: OK'
    done
    for version in tls1 tls1_1; do
        lacks "$(client "$open" "-$version" -cipher ALL:@SECLEVEL=0)" 'Cipher    : [A-Z]'
    done
}
names() {
    has "$(client "$open" -servername localhost)" 'subject=CN ?= ?localhost'
    has "$(client "$open" -servername other.example)" 'subject=CN ?= ?other.example'
    has "$(client "$open" -servername a.wild.example)" 'subject=CN ?= ?other.example'
    has "$(client "$open" -servername unknown.example)" 'subject=CN ?= ?localhost'
    # A client without ECDSA gets the certificate of RSA.
    has "$(client "$open" -servername localhost -sigalgs RSA-PSS+SHA256)" 'Peer signature type: RSA-PSS'
}
protocols() {
    has "$(client "$open" -alpn mqtt)" 'ALPN protocol: mqtt'
    has "$(client "$open" -alpn h2,mqtt)" 'ALPN protocol: mqtt'
    has "$(client "$open" -alpn h2)" 'no application protocol'
}
tickets() {
    for version in tls1_2 tls1_3; do
        client "$open" "-$version" -sess_out session >/dev/null
        has "$(client "$open" "-$version" -sess_in session)" 'Reused, TLS'
        # The ticket of one listener is worth nothing at the other, which gives none itself.
        lacks "$(client "$certified" "-$version" -sess_in session -cert good.pem -key good.key)" 'Reused, TLS'
        rm -f session2
        local said
        said=$(client "$certified" "-$version" -cert good.pem -key good.key -sess_out session2)
        has "$said" 'Verify return code: 0|Verification: OK'
        if [ -s session2 ]; then
            lacks "$(client "$certified" "-$version" -sess_in session2 -cert good.pem -key good.key)" 'Reused, TLS'
        fi
    done
    lacks "$(client "$open" -tls1_3)" 'Max Early Data: [1-9]'
}
renegotiation() {
    local said
    said=$( (sleep 0.3; echo R; sleep 0.3; echo Q) | openssl s_client -connect "localhost:$open" -CAfile ca.pem -tls1_2 2>&1 || true)
    has "$said" 'RENEGOTIATING'
    lacks "$said" 'verify return:1.*RENEGOTIATING.*verify return:1'
}
publishes() { mosquitto_pub -h localhost "$@" --cafile ca.pem -t interop/tls -m hello -q 1; }
certificates() {
    publishes -p "$certified" --cert good.pem --key good.key
    for refused in revoked stranger; do
        if publishes -p "$certified" --cert "$refused.pem" --key "$refused.key"; then echo "$refused was let in"; return 1; fi
    done
    if publishes -p "$certified"; then echo "nobody was let in"; return 1; fi
}
messages() {
    local at=(-h localhost -p "$open" --cafile ca.pem)
    head -c 1000000 /dev/urandom >sent
    for qos in 0 1 2; do
        mosquitto_pub "${at[@]}" -t interop/tls/big -q "$qos" -r -f sent
        mosquitto_sub "${at[@]}" -t interop/tls/big -q "$qos" -C 1 -N -W 20 >got
        cmp sent got
    done
    # Lines in order, after one that says that the subscription is there.
    mosquitto_pub "${at[@]}" -t interop/tls/lines -q 1 -r -m ready
    stdbuf -oL mosquitto_sub "${at[@]}" -t interop/tls/lines -q 1 -C 2001 -W 20 >lines &
    children+=($!)
    local subscriber=$!
    await lines ready
    seq 2000 | mosquitto_pub "${at[@]}" -t interop/tls/lines -q 0 -l
    wait "$subscriber"
    equal "$(sha256sum <lines)" "$( (echo ready; seq 2000) | sha256sum)"
}
paho() {
    "$installed/python-paho-2/bin/python" -B - "$open" "$certified" <<'END'
import queue, sys
import paho.mqtt.client as mqtt

def client(name, port, **tls):
    got = queue.Queue()
    it = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    it.tls_set(ca_certs="ca.pem", **tls)
    it.on_connect = lambda _client, _data, _flags, reason, _properties: got.put(reason)
    it.on_message = lambda _client, _data, message: got.put(message.payload)
    it.on_subscribe = lambda *_: got.put("subscribed")
    it.connect("localhost", port)
    it.loop_start()
    assert got.get(timeout=20) == "Success"
    return it, got

for port, tls in ((int(sys.argv[1]), {}), (int(sys.argv[2]), {"certfile": "good.pem", "keyfile": "good.key"})):
    one, got = client("interop-paho", port, **tls)
    one.subscribe("interop/paho", qos=2)
    assert got.get(timeout=20) == "subscribed"
    payloads = [bytes([number % 256]) * length for number, length in enumerate((1, 100, 16_383, 16_384, 16_385, 70_000, 500_000) * 3)]
    for number, payload in enumerate(payloads):
        one.publish("interop/paho", payload, qos=number % 3)
    # Messages of one QoS keep their order.
    received = [got.get(timeout=20) for _ in payloads]
    assert sorted(received) == sorted(payloads)
    one.disconnect()
    one.loop_stop()
END
}
rumqttc() { "$rumqttc" localhost "$open" ca.pem; }
# Mozilla's recommendation "intermediate", whole.
sslyze() {
    "$installed/python-sslyze/bin/sslyze" --mozilla_config intermediate --certinfo --certinfo_ca_file ca.pem --json_out sslyze.json \
        "localhost:$open" >sslyze.txt
    grep -q 'OK - Compliant' sslyze.txt || { sed -n '/COMPLIANCE/,$p' sslyze.txt; return 1; }
}
# Protocols, ciphers, forward secrecy and every attack that it knows. The order of ciphers is the client's, as Mozilla has it too.
testssl() {
    timeout 150 "$(type -P testssl)" --quiet --color 0 --warnings off --add-ca ca.pem --jsonfile testssl.json --ip one -p -s -f -U "localhost:$open" >testssl.txt || true
    python3 - <<'END'
import json
findings = json.load(open("testssl.json"))
bad = [it for it in findings if it["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL") and it["id"] != "cipher_order"]
assert len(findings) > 30, findings
assert not bad, bad
END
}

status=0
for variant in 'auto 1' 'epoll 2' 'tokio 2'; do
    read -r io shards <<<"$variant"
    passed=0 failed=0
    start "$io" "$shards"
    checks=(versions names protocols tickets renegotiation certificates messages paho rumqttc sslyze)
    # It takes most of a minute, and looks at nothing that the drivers do.
    if [ "$io" = auto ]; then checks+=(testssl); fi
    for it in "${checks[@]}"; do check "$it" "$it"; done
    stop
    finish "TLS on $io with $shards shards" || { status=1; tail -n 20 log; }
done
exit "$status"
