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
  options.services.scopekeeper = import ./options.nix {
    inherit lib pkgs package;
    what = "scopekeeper, its keeper and the cleanup at boot, for the system and for users";
    rules = ", for every user: /etc/scopekeeper/config.toml";
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
