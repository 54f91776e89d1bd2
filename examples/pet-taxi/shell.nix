# The tools of those who work on the app; direnv enters it by itself (.envrc).
{ sources ? import ./nix/sources.nix
, pkgs ? import sources.nixpkgs { }
}:

pkgs.mkShell {
  packages = [ pkgs.niv pkgs.poetry ];
}
