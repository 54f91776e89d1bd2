# What sources.json pins, by name, fetched when it is used. `npins upgrade` puts a longer file of npins' own in this place.
let
  fetched = _: pin: pin // {
    outPath = fetchTarball {
      inherit (pin) url;
      sha256 = pin.hash;
    };
  };
in
builtins.mapAttrs fetched (builtins.fromJSON (builtins.readFile ./sources.json)).pins
