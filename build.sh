#!/usr/bin/env bash
# Builds the broker for any platform from any platform; the results are in dist/.
# Usage: build.sh [TARGET] [MODE]           one target, or all of them
#        build.sh deploy TARGET [MODE]      the same, and the directory to copy to the machine that will run it
# TARGET: native (default), linux-x86_64, linux-aarch64, macos-x86_64, macos-aarch64, windows-x86_64, all
# MODE: Debug, ReleaseSafe (assertions on; for production), ReleaseFast (default), ReleaseSmall
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$root"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
dist=$root/dist
targets=(linux-x86_64 linux-aarch64 macos-x86_64 macos-aarch64 windows-x86_64)
case $(uname -s) in
    MINGW* | MSYS* | CYGWIN*) zig=$CARGO_TARGET_DIR/zig/Scripts python=python ;;
    *) zig=$CARGO_TARGET_DIR/zig/bin python=python3 ;;
esac
zig_install="$python -m venv ${zig%/*} && $zig/pip install ziglang==0.15.2 cargo-zigbuild"

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# The target name of this machine.
host() {
    local system machine
    case $(uname -s) in
        Linux) system=linux ;;
        Darwin) system=macos ;;
        MINGW* | MSYS* | CYGWIN*) system=windows ;;
        *) fail "this system, $(uname -s), is not a known target: name one" ;;
    esac
    case $(uname -m) in
        x86_64 | amd64) machine=x86_64 ;;
        aarch64 | arm64) machine=aarch64 ;;
        *) fail "this processor, $(uname -m), is not a known target: name one" ;;
    esac
    echo "$system-$machine"
}

# triple TARGET: Rust's name for the target.
triple() {
    case $1 in
        linux-*) echo "${1#linux-}-unknown-linux-gnu" ;;
        macos-*) echo "${1#macos-}-apple-darwin" ;;
        windows-*) echo "${1#windows-}-pc-windows-gnu" ;;
    esac
}

# artefact TARGET: the file name of the program.
artefact() {
    case $1 in
        windows-*) echo "mqtt-broker-$1.exe" ;;
        *) echo "mqtt-broker-$1" ;;
    esac
}

# profile MODE: Cargo's name for the mode.
profile() {
    case $1 in
        Debug) echo dev ;;
        ReleaseSafe) echo release-safe ;;
        ReleaseFast) echo release ;;
        ReleaseSmall) echo release-small ;;
        *) usage ;;
    esac
}

# Sets `build` to the command that compiles for TARGET, and `strip` to the one that strips the result.
find_tools() {
    local target=$1 triple=$2 profile=$3 sysroot linker prefix install command=build std=()
    strip=(strip)
    if [ "$target" = "$(host)" ]; then
        # Without --target, so that the ordinary build directory is used.
        build=(cargo build)
        # Microsoft's linker writes symbols to a separate file.
        case $target in windows-*) strip=(true) ;; esac
        return
    fi

    build=(env)
    if [ ! -d "$(rustc --print target-libdir --target "$triple")" ]; then
        sysroot=$(rustc +deb --print sysroot 2>/dev/null) || sysroot=/nonexistent
        if [ ! -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
            fail "Rust's standard library for $triple is missing: \`rustup target add $triple\`, or, on Debian," \
                "\`apt-get install rustc-web cargo-web rust-web-src && rustup toolchain link deb /usr\`"
        fi
        # Replaces the toolchain of rust-toolchain.toml, and builds the standard library from source.
        build+=(RUSTUP_TOOLCHAIN=deb RUSTC_BOOTSTRAP=1)
        std=("-Zbuild-std=std,panic_abort")
    fi

    case $(uname -s):$target in
        Darwin:macos-*) ;;
        Linux:linux-* | *:windows-*)
            prefix=${target#linux-}-linux-gnu
            install="apt-get install gcc-${prefix/_/-}"
            case $(uname -s):$target in
                *:linux-aarch64) install+=" libc6-dev-arm64-cross" ;;
                *:linux-x86_64) install+=" libc6-dev-amd64-cross" ;;
                Darwin:windows-x86_64) prefix=x86_64-w64-mingw32 install="brew install mingw-w64" ;;
                *:windows-x86_64) prefix=x86_64-w64-mingw32 install="apt-get install gcc-mingw-w64-x86-64-posix" ;;
            esac
            command -v "$prefix-gcc" >/dev/null ||
                fail "the linker for $target, $prefix-gcc, is missing: \`$install\`"
            linker=$(tr 'a-z-' 'A-Z_' <<<"CARGO_TARGET_${triple}_LINKER")
            build+=("$linker=$prefix-gcc")
            strip=("$prefix-strip")
            ;;
        *)
            if [ -x "$zig/cargo-zigbuild" ]; then
                build+=("PATH=$zig:$PATH")
            elif ! command -v cargo-zigbuild >/dev/null; then
                fail "the linker for $target, cargo-zigbuild, is missing: \`$zig_install\`"
            fi
            command=zigbuild
            # Zig strips while linking: stripping later would invalidate the signature that macOS requires.
            strip=(true)
            if [ "$profile" != dev ]; then build+=("RUSTFLAGS=${RUSTFLAGS:-} -Clink-arg=-s"); fi
            ;;
    esac
    build+=(cargo "$command" "${std[@]+"${std[@]}"}" --target "$triple")
}

# build_target TARGET MODE: writes its artefacts to dist/.
build_target() {
    local target=$1 mode=$2 profile triple output name build strip
    profile=$(profile "$mode")
    triple=$(triple "$target")
    name=$(artefact "$target")
    find_tools "$target" "$triple" "$profile"
    echo "$target, $mode"

    output=$CARGO_TARGET_DIR
    if [ "$target" != "$(host)" ]; then output+=/$triple; fi
    output+=/${profile/#dev/debug}/mqtt-broker
    case $name in *.exe) output+=.exe ;; esac
    build+=(--locked --profile "$profile" --bin mqtt-broker)
    case $target in
        linux-*)
            # The allocator is C. On ARM it is built for the largest page of a kernel, which may not be that of this machine.
            if command -v make >/dev/null; then
                build+=(--features jemalloc)
            else
                echo "  with the system's allocator, because make is missing: it gives little memory back" >&2
            fi
            ;;
    esac
    case $target in linux-aarch64) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; *) unset JEMALLOC_SYS_WITH_LG_PAGE ;; esac
    mkdir -p "$dist"
    "${build[@]}"
    place "$output" "$name"
    ln -f "$dist/$name" "$dist/${name/broker/broker-async}"
    # Selects the blocking backend as the default, if this version has it.
    if grep -q '^sync = ' Cargo.toml; then
        "${build[@]}" --features sync
        place "$output" "${name/broker/broker-sync}"
    fi
    (shopt -s nullglob && cd "$dist" && sha256 mqtt-broker-*-{x86_64,aarch64}{,.exe} >SHA256SUMS)
}

# place FILE NAME: copies FILE to dist/NAME, stripped unless it is for a debugger.
place() {
    rm -f "$dist/$2"
    cp "$1" "$dist/$2"
    if [ "$profile" != dev ]; then "${strip[@]}" "$dist/$2"; fi
    printf '  dist/%s: %s bytes\n' "$2" "$(size "$dist/$2")"
}

size() {
    wc -c <"$1" | tr -d ' '
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi
}

# build_all MODE: builds every target in a separate process, and prints a table of the results.
build_all() {
    local target name sync status=0 rows=""
    for target in "${targets[@]}"; do
        name=$(artefact "$target")
        sync=${name/broker/broker-sync}
        rm -f "$dist/$name" "$dist/${name/broker/broker-async}" "$dist/$sync"
        "$root/build.sh" "$target" "$1" || status=1
        prove "$target" "$name"
        prove "$target" "$sync" blocking
    done
    printf '\n%-35s %10s  %s\n%s' program bytes "how far it was tested here" "$rows"
    return "$status"
}

# prove TARGET NAME [IO]: tests NAME in dist/ as far as this machine can and adds the result to `rows`; `status` is 1 on a failure.
prove() {
    local size=- proved="NOT BUILT" code=0
    if [ -f "$dist/$2" ]; then
        size=$(size "$dist/$2")
        proved=$(tests/platforms/smoke "$1" "$dist/$2" "${3:-}" | tail -n 1) || code=$?
        case $code in
            0) proved="linked; $proved" ;;
            77) proved="linked; not run: $proved" ;;
            *) status=1 proved="linked; the smoke test FAILED" ;;
        esac
    else
        status=1
    fi
    rows+=$(printf '%-35s %10s  %s' "$2" "$size" "$proved")$'\n'
}

# deploy TARGET: creates the directory to copy to another machine, with the binary just built.
deploy() {
    local target=$1 name folder=$dist/mqtt-broker-deploy file
    name=$(artefact "$target")
    rm -rf "$folder"
    mkdir -p "$folder/config" "$folder/data" "$folder/logs"
    cp "$dist/$name" "$folder/"
    cp deploy/broker.conf "$folder/config/"
    # The manuals, with the file that they refer to.
    mkdir "$folder/manual"
    cp deploy/README.md deploy/README.zh-CN.md deploy/broker.conf "$folder/manual/"
    # The installed program is called mqtt-broker; in this directory its name contains the platform.
    for file in $(service_files "$target"); do
        mkdir -p "$folder/$(dirname "$file")"
        sed -E "s#(/opt/mqtt-broker/|\.\.\\\\)mqtt-broker(\.exe)?(<|\$)#\1$name\3#" \
            "deploy/$file" >"$folder/$file"
    done
    sed "s/@BINARY@/$name/g" "deploy/directory/${target%%-*}.md" >"$folder/README.md"
    echo "  dist/mqtt-broker-deploy/: $name with configuration, manuals and service files; its README.md has the next steps"
}

service_files() {
    case $1 in
        linux-*) echo systemd/mqtt-broker.service sysctl/90-mqtt-broker.conf limits/mqtt-broker.conf ;;
        macos-*) echo launchd/org.mqtt-broker.plist ;;
        windows-*) echo windows/mqtt-broker-service.xml ;;
    esac
}

command -v cargo >/dev/null || fail "cargo is missing: install Rust by rustup (https://rustup.rs)"
action=build
if [ "${1:-}" = deploy ]; then
    action=deploy
    shift
    [ $# -ge 1 ] || usage
fi
[ $# -le 2 ] || usage
target=${1:-native}
mode=${2:-ReleaseFast}
profile "$mode" >/dev/null
if [ "$target" = native ]; then target=$(host); fi

case "$action:$target" in
    build:all) build_all "$mode" ;;
    *:all) usage ;;
    *)
        case " ${targets[*]} " in *" $target "*) ;; *) usage ;; esac
        build_target "$target" "$mode"
        if [ "$action" = deploy ]; then deploy "$target"; fi
        ;;
esac
