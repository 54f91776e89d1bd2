# The app for `nix-build`, from poetry.lock by poetry2nix; niv pins both nixpkgs and poetry2nix.
{ sources ? import ./nix/sources.nix
, pkgs ? import sources.nixpkgs { }
, poetry2nix ? import sources.poetry2nix { inherit pkgs; }
}:

poetry2nix.mkPoetryApplication {
  projectDir = ./.;
  preferWheels = true; # poetry2nix need not know then how each package is built
  meta.mainProgram = "app"; # what a bundler starts
}
