# The app as nixpkgs builds Python: from pyproject.toml, with nixpkgs' own Flask.
{ lib, python3Packages }:

let
  project = (lib.importTOML ./pyproject.toml).tool.poetry;
in
python3Packages.buildPythonApplication {
  pname = project.name;
  inherit (project) version;
  pyproject = true;

  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.unions [ ./pyproject.toml ./demo.py ];
  };

  build-system = [ python3Packages.poetry-core ];
  dependencies = [ python3Packages.flask ];

  meta = {
    inherit (project) description;
    mainProgram = "app";
  };
}
