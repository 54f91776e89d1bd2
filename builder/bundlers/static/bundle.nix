# What the flake does with a package: its main program, checked and copied.
{ system }:
package:

derivation {
  name = package.name or "bundle";
  inherit system package;
  program = package.meta.mainProgram or package.pname or (builtins.parseDrvName package.name).name;
  store = builtins.storeDir;
  __noChroot = true; # with `sandbox = relaxed`, this one is built outside

  builder = "/bin/sh";
  args = [ ./bundle.sh ];
}
