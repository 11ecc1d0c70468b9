# Finds the standard library of another target. The script is sourced after tests/interop/common.sh, not run.
# shellcheck shell=bash

# need_std TRIPLE: looks where build.sh does, first at rustup's. If both are missing, it installs Debian's source, linked as `deb`.
need_std() {
    if [ -d "$(rustc --print target-libdir --target "$1")" ]; then return; fi
    if [ -f "$(rustc +deb --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock" ]; then return; fi
    install rustc-web cargo-web rust-web-src
    rustup toolchain link deb /usr
}
