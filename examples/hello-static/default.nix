# hello-static: a static executable that prints one line. It is made of nothing but numbers: no compiler, no nixpkgs,
# no network. The machine must have /bin/sh, and mkdir and chmod beside it, so Nix's sandbox must be off or relaxed.
{ system ? builtins.currentSystem }:

let
  name = "hello-static";
  version = "0.1.0";

  elf = import ./elf.nix { inherit system; };
in
derivation {
  name = "${name}-${version}";
  inherit system;
  __noChroot = true; # with `sandbox = relaxed`, this one is built outside

  builder = "/bin/sh";
  args = [
    "-euc"
    ''
      PATH=/bin:/usr/bin
      mkdir -p "$out/bin"
      printf '${elf.printing "${name} ${version} needs nothing of the machine but a kernel"}' >"$out/bin/${name}"
      chmod 755 "$out/bin/${name}"
    ''
  ];
}
