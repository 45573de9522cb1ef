#!/bin/sh
# Fuzzes one target for some seconds: fuzz.sh json 120. Stable Rust and a C++ compiler are enough:
# the flags are those of cargo-fuzz without a sanitizer. Findings go into the corpus.
set -eu
cd "$(dirname "$0")"
target=$1
corpus=../../../../fixtures/fuzz/$target
found=${CARGO_TARGET_DIR:-target}/found/$target
triple=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$found"
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --quiet --release --target "$triple" --bin "$target"
"${CARGO_TARGET_DIR:-target}/$triple/release/$target" "$found" "$corpus" -dict=words.dict \
    -max_len=20000 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$corpus/found-" \
    -max_total_time="${2:-120}" -print_final_stats=1
