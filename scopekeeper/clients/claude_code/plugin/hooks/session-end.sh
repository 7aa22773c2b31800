# shellcheck shell=sh
# The hook SessionEnd of Claude Code: when the client has ended, ends what it started.
#
# The client runs this before it ends, and grants it 1.5 s. So it starts a process that waits for
# that end, and returns. `reconcile` stops only what belongs to an owner that is proved to be gone:
# while the client lives, nothing is stopped, whatever the reason of the hook.
#
# It prints nothing and exits 0, whatever happens: the client must end as it does without it.
exec >/dev/null 2>&1

# 0.2 s each; a client ends about a second after its hook
LOOKS=150

has_ended() {
    read -r stat <"/proc/$1/stat" || return 0
    case ${stat##*) } in
        [ZX]*) return 0 ;;
    esac
    return 1
}

if [ "$1" = --wait ]; then
    cd / || exit 0 # the project's folder is not kept in use
    looks=0
    until has_ended "$2"; do
        looks=$((looks + 1))
        [ "$looks" -lt "$LOOKS" ] || exit 0 # it goes on: another session has begun in it
        sleep 0.2
    done
    scopekeeper reconcile --owner "$2"
    exit 0
fi

command -v scopekeeper || exit 0
# a quote inside of a JSON string is escaped, so this matches the key only
case $(tr -d ' \t\r\n') in
    *'"reason":"clear"'*) exit 0 ;; # the servers continue, in the next session
esac
client=${CLAUDE_PID:-$PPID}
case $client in
    '' | *[!0-9]*) exit 0 ;;
esac
# a session of its own: the client ends the process group of a hook that takes too long
if command -v setsid; then set -- setsid; else set --; fi
"$@" sh "$0" --wait "$client" </dev/null &
exit 0
