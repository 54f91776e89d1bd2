#!/bin/sh
# Run by Nix with $package, $program, $store and $out.
# shellcheck disable=SC2154
set -eu
PATH=/bin:/usr/bin

refuse() {
  echo "static bundler: $1" >&2
  exit 1
}

number() { # OFFSET BYTES: a number from the program's header
  od -An -v -t "u$2" -j "$1" -N "$2" "$file" | tr -d ' '
}

file=$package
[ -f "$file" ] || file=$package/bin/$program
[ -f "$file" ] && [ -x "$file" ] || refuse "$package is no program and has no bin/$program; set meta.mainProgram"
[ "$(od -An -v -t x1 -N 5 "$file" | tr -d ' ')" = 7f454c4602 ] || refuse "$file is no 64-bit ELF program, so it needs an interpreter"

# Each program header says in its first word what it is; 3 names a dynamic loader.
first=$(number 32 8) size=$(number 54 2) left=$(number 56 2)
while [ "$left" -gt 0 ]; do
  [ "$(number "$first" 4)" -ne 3 ] || refuse "$file is linked dynamically: link it statically, or use github:NixOS/bundlers"
  first=$((first + size)) left=$((left - 1))
done
! grep -q -F "$store/" "$file" || refuse "$file names files in $store, which aren't where it runs; use github:NixOS/bundlers"

cp "$file" "$out"
chmod 755 "$out"
