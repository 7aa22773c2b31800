# The options of both modules, services.scopekeeper; flake.nix lists the checks.
{
  lib,
  pkgs,
  package,
  what,
  rules,
}:
{
  enable = lib.mkEnableOption what;
  package = lib.mkOption {
    type = lib.types.package;
    default = package pkgs;
    description = "The package to use.";
  };
  settings = lib.mkOption {
    inherit (pkgs.formats.toml { }) type;
    default = { };
    example = {
      lanes.cron.supersede = true;
    };
    description = "The rules of lanes${rules}.";
  };
}
