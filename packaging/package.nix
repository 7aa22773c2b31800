# The package; flake.nix lists the checks.
#
# An environment, not a wrapped program: scopekeeper starts its interpreter again, and that has to
# find the same modules.
{
  lib,
  python3,
  runCommand,
}:
let
  source = ../.;
  version = builtins.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (
      builtins.readFile (source + "/scopekeeper/version.py")
    )
  );
  module = python3.pkgs.buildPythonPackage {
    pname = "scopekeeper";
    inherit version;
    pyproject = true;
    src = source;
    build-system = with python3.pkgs; [
      hatchling
      click
    ];
    dependencies = with python3.pkgs; [
      click
      dbus-next
      prometheus-client
      psutil
      pyroute2
      pyte
      pystemd
    ];
    pythonImportsCheck = [ "scopekeeper" ];
    # the tests boot machines of their own
    doCheck = false;
  };
  environment = python3.withPackages (_: [ module ]);
in
runCommand "scopekeeper-${version}"
  {
    passthru = { inherit module; };
    meta = {
      description = "MCP servers and PTY runs in systemd scopes of their session and lane";
      license = lib.licenses.mit;
      mainProgram = "scopekeeper";
      platforms = lib.platforms.linux;
    };
  }
  ''
    mkdir -p $out/bin $out/share
    for name in scopekeeper scopekeeper-shell scopekeeper-prefix; do
      ln -s ${environment}/bin/$name $out/bin/$name
    done
    for name in man bash-completion zsh fish; do
      ln -s ${module}/share/$name $out/share/$name
    done
    sh ${source}/packaging/install-units "" $out $out/bin
  ''
