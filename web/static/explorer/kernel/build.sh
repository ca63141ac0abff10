#!/bin/sh
# Build generator.wasm from generator.c with Debian 12's clang 14 and lld (apt-get install clang lld).
# The output depends on nothing but the source and the compiler's version.
set -eu
cd "$(dirname "$0")"
exec clang --target=wasm32 -O3 -msimd128 -nostdlib -ffreestanding -fno-builtin -Wall -Wextra \
  -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -Wl,--initial-memory=131072 \
  -Wl,--export=generator_create -Wl,--export=generator_staging -Wl,--export=generator_bias \
  -Wl,--export=generator_z -Wl,--export=generator_load -Wl,--export=generator_run \
  -o "${1:-generator.wasm}" generator.c
