# The Home Manager module: services.scopekeeper; flake.nix lists the checks.
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
  units = "${cfg.package}/lib/systemd/user";
  bus = "org.scopekeeper.Keeper1.service";
in
{
  options.services.scopekeeper = import ./options.nix {
    inherit lib pkgs package;
    what = "scopekeeper, its keeper and the cleanup at the manager's start";
    rules = ": ~/.config/scopekeeper/config.toml";
  };

  config = lib.mkIf cfg.enable {
    home.packages = [ cfg.package ];
    xdg.configFile =
      lib.listToAttrs (
        map
          (name: {
            name = "systemd/user/${name}";
            value.source = "${units}/${baseNameOf name}";
          })
          [
            "scopekeeper.service"
            "scopekeeper.slice"
            "scopekeeper@.service"
            "scopekeeper-reconcile.service"
            "scopekeeper-reconcile.timer"
            # enabled
            "default.target.wants/scopekeeper-reconcile.service"
            "timers.target.wants/scopekeeper-reconcile.timer"
          ]
      )
      // lib.optionalAttrs (cfg.settings != { }) {
        "scopekeeper/config.toml".source = toml.generate "scopekeeper.toml" cfg.settings;
      };
    xdg.dataFile."dbus-1/services/${bus}".source = "${cfg.package}/share/dbus-1/services/${bus}";
  };
}
