"""The commands in groups, each with one sentence: what ``scopekeeper --help`` lists."""

GROUPS = {
    "Run": {
        "run": "Start a command in the scope of its session and lane.",
        "exec": "Start a command with a terminal that outlives the caller.",
        "attach": "Attach to a run's terminal.",
        "send": "Type into a run's terminal.",
        "wait": "Wait until runs end, and exit with the status of the last one.",
        "place": "Make an empty cgroup in which the caller starts a member itself.",
    },
    "Look": {
        "status": "Show on one screen what is contained, and what is not.",
        "ls": "List scopes.",
        "top": "Show scopes live, and act on them.",
        "ps": "Show the processes inside, as a tree.",
        "ports": "Show which member listens on what.",
        "watch": "Print events of scopes as they happen.",
        "why": "Show why something ended, or what still runs.",
        "history": "List what ended, when, and why.",
        "report": "Write what ended and what runs as one page for a browser.",
        "logs": "Show a run's output.",
        "policy": "Show the rules of a lane and the commands for events, and try one.",
        "metrics": "Print metrics for Prometheus.",
    },
    "End": {
        "stop": "Stop scopes or members, and verify that no process is left.",
        "reconcile": "Find scopes that lost their owner, and end them by policy.",
    },
    "Keep": {
        "adopt": "Give scopes a new owner.",
        "label": "Give scopes a second name of their session.",
        "own": "Hand paths over to a scope, which removes them at its end.",
        "disown": "Take back paths that were handed over.",
        "keeper": "Run the daemon that watches scopes and holds terminals.",
        "hook": "What a client calls when a session starts or ends.",
    },
    "Set up": {
        "setup": "Find the clients and gateways of this machine, and contain them.",
        "doctor": "Check that scopekeeper works on this machine.",
        "bugreport": "Write one file to attach to a bug report.",
        "install": "Install the systemd units that start the keeper.",
        "uninstall": "Undo install.",
        "wrap": "Rewrite MCP client configurations to contain their servers.",
        "unwrap": "Undo wrap.",
        "openclaw": "Contain OpenClaw's gateway, and show what is contained.",
    },
}

COMMANDS = {name: text for commands in GROUPS.values() for name, text in commands.items()}

MEANT = {
    "list": "ls", "scopes": "ls", "htop": "top", "live": "top",
    "kill": "stop", "rm": "stop", "remove": "stop", "delete": "stop", "end": "stop", "down": "stop",
    "terminate": "stop", "up": "run", "start": "run", "spawn": "run", "create": "run",
    "prune": "reconcile", "gc": "reconcile", "clean": "reconcile", "cleanup": "reconcile",
    "inspect": "why", "show": "why", "explain": "why", "info": "why", "describe": "why",
    "log": "logs", "output": "logs", "events": "watch", "monitor": "watch", "tail": "logs",
    "check": "doctor", "daemon": "keeper", "type": "send", "enter": "attach",
    "connect": "attach", "help": "--help", "version": "--version", "rules": "policy",
    "init": "setup", "configure": "setup", "overview": "status",
    "processes": "ps", "pstree": "ps", "ss": "ports", "netstat": "ports", "lsof": "ports",
    "prometheus": "metrics", "openmetrics": "metrics", "stats": "metrics",
    "rename": "label", "tag": "label",
    "html": "report", "page": "report", "timeline": "report", "dashboard": "report",
}  # fmt: skip
"""What other tools call a command, or what is close to it, and the command here."""
