# The app for `nix build` and `nix bundle`. It has no inputs: npins pins nixpkgs, for this file and any other.
{
  description = "Pet Taxi, as one package of nixpkgs' Python";

  outputs = { self }:
    let
      sources = import ./npins;
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forEach = make: builtins.listToAttrs (map (name: { inherit name; value = make (import sources.nixpkgs { system = name; }); }) systems);
    in
    {
      packages = forEach (pkgs: { default = pkgs.callPackage ./package.nix { }; });

      devShells = forEach (pkgs: { default = pkgs.mkShell { packages = [ pkgs.npins pkgs.poetry ]; }; });
    };
}
