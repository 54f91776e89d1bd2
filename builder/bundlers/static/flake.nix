# A bundler for packages whose program is static already: the program itself becomes the bundle, so it needs no shell,
# no archive and no user namespace where it runs. It has no inputs, so nothing is downloaded.
#
#   nix bundle --bundler path:builder/bundlers/static path:examples/hello-static
#
# It asks the machine for /bin/sh and a few tools beside it, so Nix's sandbox must be off or relaxed.
{
  description = "Takes the static program out of a package, and refuses one that isn't static";

  outputs = { self }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      bundler = system: {
        name = system;
        value.default = import ./bundle.nix { inherit system; };
      };
    in
    {
      bundlers = builtins.listToAttrs (map bundler systems);
    };
}
