# shellcheck shell=bash disable=SC2034
# Names that build, up and down share. Sourced, never run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${DEPLOYER_TEST_STATE:-/var/tmp/deployer-tests}
name=${DEPLOYER_TEST_NAME:-deployer-test-target}
ssh_port=${DEPLOYER_TEST_SSH_PORT:-2222}
first_port=${DEPLOYER_TEST_FIRST_PORT:-18000}
last_port=$((first_port + 99))
image=deployer-test-target
log=$state/target.log
own_socket=unix://$state/docker.sock

fail() {
    printf 'tests/target: %s\n' "$*" >&2
    exit 1
}

# step WHAT COMMAND...: one plain line on stderr with how long it took; the command's own output
# goes to the log, whose end is shown when it fails. Never call it in a condition: bash would ignore
# failures inside COMMAND there.
doing=
exec 3>&2
step() {
    local what=$1 began=$EPOCHREALTIME took
    doing=$1
    shift
    printf '== %s\n' "$what" >>"$log"
    "$@" >>"$log" 2>&1
    doing=
    took=$(((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}) / 10000))
    printf '%s (%d.%02d s)\n' "$what" $((took / 100)) $((took % 100)) >&3
}
clean() { :; }
at_exit() {
    if [ -n "$doing" ]; then
        tail -n 20 "$log" >&3
        printf 'tests/target: failed: %s (the whole log: %s)\n' "$doing" "$log" >&3
    fi
    clean
}
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# until_true SECONDS COMMAND...: asks ten times a second; non-zero when the time is over.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# runs PIDFILE NAME: is the process in PIDFILE alive, and really NAME? A file left by a killed run
# may hold a number that some other process has by now. A zombie has no command line.
runs() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && grep -qsa "$2" "/proc/$pid/cmdline"
}

ended() { ! runs "$@"; }

answers() { timeout 5 docker -H "$1" version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# The engine to use: one that `up` started, else one that the machine has. Only unix sockets: with an
# engine elsewhere, the published ports would be elsewhere too.
find_engine() {
    local socket
    for socket in "$own_socket" "${DOCKER_HOST:-}" unix:///var/run/docker.sock; do
        case $socket in unix://*) ;; *) continue ;; esac
        if answers "$socket"; then
            export DOCKER_HOST=$socket
            return 0
        fi
    done
    return 1
}

# An engine that ends in order removes its pid file. One that was killed leaves its containers
# running: it takes the same engine again to end them.
engine_was_killed() { [ -f "$state/dockerd.pid" ] && ! answers "$own_socket"; }

start_engine() {
    if runs "$state/dockerd.pid" dockerd; then
        # An earlier run's, still starting or stuck: it gets its time, then it is replaced.
        until_true 15 answers "$own_socket" && return
        stop_engine
    fi
    # Left by a killed run. Neither starts when its file names any living process. The rest of
    # exec/ stays: by it the engine finds the containers that went on without it, and ends them.
    rm -f "$state/dockerd.pid" "$state/docker.sock"
    runs "$state/exec/containerd/containerd.pid" containerd || rm -f "$state/exec/containerd/containerd.pid"
    # A session of its own: Ctrl-C in a test run must not end it before `down` has cleaned up.
    setsid dockerd --host "$own_socket" --data-root "$state/docker" --exec-root "$state/exec" \
        --pidfile "$state/dockerd.pid" </dev/null >"$state/dockerd.log" 2>&1 3>&- &
    engine_pid=$!
    until_true 30 engine_decided || true
    answers "$own_socket" || {
        tail -n 5 "$state/dockerd.log"
        echo "dockerd does not run here; its log: $state/dockerd.log"
        return 1
    }
}
engine_decided() { answers "$own_socket" || ! kill -0 "$engine_pid" 2>/dev/null; }

# Ends the engine that `up` started, by its id, and no other. Containers first get to end by themselves.
stop_engine() {
    kill "$(cat "$state/dockerd.pid")"
    until_true 20 ended "$state/dockerd.pid" dockerd || kill -9 "$(cat "$state/dockerd.pid")"
    rm -f "$state/dockerd.pid" "$state/docker.sock"
}
