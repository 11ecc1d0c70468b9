# The parts that the interop scripts share: where things are installed, installing a Debian package, counting checks, and what checks await and compare. Sourced, not run.
# shellcheck shell=bash

# Environments, modules and programs of the clients, kept from run to run beside what cargo builds.
interop=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
installed=${CARGO_TARGET_DIR:-$interop/../../target}/interop
mkdir -p "$installed"

passed=0
failed=0

# install PACKAGE…: from Debian, as root or by sudo that asks nothing.
install() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "something is missing here: install it with \`apt-get install $*\`" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# need COMMAND PACKAGE…: makes COMMAND available, from Debian's PACKAGE where it is missing.
need() {
    local wanted=$1
    shift
    if command -v "$wanted" >/dev/null; then return; fi
    install "$@"
    command -v "$wanted" >/dev/null || { echo "$* does not bring $wanted" >&2; exit 1; }
}

# The background processes of one check: it may leave none behind.
children=()
end_children() {
    for child in "${children[@]}"; do kill -KILL "$child" 2>/dev/null || true; done
}

# check NAME COMMAND…: one check, counted; it ends at its first failing command, and its output is shown then.
check() {
    local name=$1 output status
    shift
    # Only a subshell that is no condition obeys `set -e`.
    set +e
    output=$(
        set -e
        trap end_children EXIT
        "$@" 2>&1
    )
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s\n%s\n' "$name" "$output"
    fi
}

# finish CLIENT: the line that tells the result, and the exit code.
finish() {
    echo "$1: $passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# await FILE TEXT: until FILE contains TEXT, at most 20 s.
await() {
    for _ in $(seq 400); do
        if grep -qF -- "$2" "$1" 2>/dev/null; then return 0; fi
        sleep 0.05
    done
    echo "no \"$2\" within 20 s in:"
    cat "$1"
    return 1
}

# equal GOT EXPECTED: fails and prints both unless they are the same text.
equal() {
    if [ "$1" != "$2" ]; then printf 'expected:\n%s\ngot:\n%s\n' "$2" "$1"; return 1; fi
}
