# What sources.json pins, by name, fetched when it is used. `niv init` puts a longer file of niv's own in this place.
let
  fetched = _: pin: pin // { outPath = fetchTarball { inherit (pin) url sha256; }; };
in
builtins.mapAttrs fetched (builtins.fromJSON (builtins.readFile ./sources.json))
