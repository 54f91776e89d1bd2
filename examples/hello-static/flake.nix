# The same derivation for those who use flakes: no inputs, so nothing is downloaded and there is nothing to lock.
{
  description = "A static executable that prints one line, built without nixpkgs";

  outputs = { self }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      package = system: {
        name = system;
        value.default = import ./default.nix { inherit system; };
      };
    in
    {
      packages = builtins.listToAttrs (map package systems);
    };
}
