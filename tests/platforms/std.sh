# The standard library of a target that this machine is not. Sourced, after tests/interop/common.sh, not run.
# shellcheck shell=bash

# need_std TRIPLE: as build.sh looks for it, rustup's first; where both are missing, Debian's source of it, linked as `deb`.
need_std() {
    if [ -d "$(rustc --print target-libdir --target "$1")" ]; then return; fi
    if [ -f "$(rustc +deb --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock" ]; then return; fi
    install rustc-web cargo-web rust-web-src
    rustup toolchain link deb /usr
}
