# The package for Nix, a NixOS module and a Home Manager module.
#
#   nix profile install 'git+file:///path/to/checkout?dir=packaging'
#
# Checked: nix 2.8 parses it and evaluates it and both modules with a stand-in for nixpkgs, its
# dependencies are those of the project (tests/unit/test_packaging.py), and what install-units
# installs is tested.
# Not checked: it was not built here, and the modules were in no configuration.
{
  description = "MCP servers and PTY runs in systemd scopes of their session and lane";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach = nixpkgs.lib.genAttrs systems;
      package = pkgs: pkgs.callPackage ./package.nix { };
    in
    {
      packages = forEach (system: rec {
        scopekeeper = package nixpkgs.legacyPackages.${system};
        default = scopekeeper;
      });

      nixosModules.default = import ./nixos.nix package;
      homeManagerModules.default = import ./home-manager.nix package;
    };
}
