# Evaluates packaging/ with as much of nixpkgs and of the module system as it uses.
{ packaging }:
let
  lib = {
    genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
    mkEnableOption = text: { description = text; };
    mkOption = option: option;
    mkIf = wanted: value: if wanted then value else { };
    optionalAttrs = wanted: value: if wanted then value else { };
    inherit (builtins) listToAttrs;
    types.package = "package";
    licenses.mit = "MIT";
    platforms.linux = [ "linux" ];
  };
  python3 = {
    pkgs = {
      buildPythonPackage = attributes: attributes // { outPath = "/module"; };
      hatchling = 1;
      click = 1;
      dbus-next = 1;
      prometheus-client = 1;
      psutil = 1;
      pyroute2 = 1;
      pyte = 1;
      pystemd = 1;
    };
    withPackages = choose: builtins.deepSeq (choose null) { outPath = "/environment"; };
  };
  runCommand = name: attributes: script: { inherit name attributes script; outPath = "/out/${name}"; };
  pkgs = {
    callPackage = path: more: import path ({ inherit lib python3 runCommand; } // more);
    formats.toml = _: { type = "toml"; generate = name: _: "/generated/${name}"; };
  };
  flake = (import (/. + "${packaging}/flake.nix")).outputs {
    self = { };
    nixpkgs = {
      inherit lib;
      legacyPackages = { x86_64-linux = pkgs; aarch64-linux = pkgs; };
    };
  };
  package = flake.packages.x86_64-linux.default;
  config.services.scopekeeper = { enable = true; inherit package; settings.lanes.cron.supersede = true; };
  evaluated = module: module { inherit config lib pkgs; };
in
{
  inherit (package) name script;
  nixos = (evaluated flake.nixosModules.default).config;
  home = (evaluated flake.homeManagerModules.default).config;
  options = map (module: (evaluated module).options.services.scopekeeper) [
    flake.nixosModules.default
    flake.homeManagerModules.default
  ];
}
