# The NixOS module: services.scopekeeper; flake.nix lists the checks.
package:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.scopekeeper;
  toml = pkgs.formats.toml { };
in
{
  options.services.scopekeeper = {
    enable = lib.mkEnableOption "scopekeeper, its keeper and the cleanup at boot, for the system and for users";
    package = lib.mkOption {
      type = lib.types.package;
      default = package pkgs;
      description = "The package to use.";
    };
    settings = lib.mkOption {
      inherit (toml) type;
      default = { };
      example = {
        lanes.cron.supersede = true;
      };
      description = "The rules of lanes, for every user: /etc/scopekeeper/config.toml.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc."scopekeeper/config.toml" = lib.mkIf (cfg.settings != { }) {
      source = toml.generate "scopekeeper.toml" cfg.settings;
    };
    services.dbus.packages = [ cfg.package ];
    systemd.packages = [ cfg.package ];
    # [Install] of a packaged unit does not count in NixOS
    systemd.services.scopekeeper-reconcile.wantedBy = [ "default.target" ];
    systemd.timers.scopekeeper-reconcile.wantedBy = [ "timers.target" ];
    systemd.user.services.scopekeeper-reconcile.wantedBy = [ "default.target" ];
    systemd.user.timers.scopekeeper-reconcile.wantedBy = [ "timers.target" ];
  };
}
