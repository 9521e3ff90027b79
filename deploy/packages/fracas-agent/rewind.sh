# Stops the agent, which undoes its faults, and lets the installed program prove that nothing is left and no agent runs. $1 says what is
# about to happen.
# Units are stopped, and started again after a refusal, by systemctl: deb-systemd-invoke does nothing and exits with 0 where a policy-rc.d
# forbids it, and what ran before is no start that such a policy is about.
agent=/usr/bin/fracas-agent
state=/var/lib/fracas/agent
restart=/run/fracas-agent/restart
override=/etc/fracas/skip-rescue
guard=/usr/lib/systemd/system/fracas-guard.path

log() {
    echo "fracas-agent: $*" >&2 || true
    logger -t fracas-agent -p daemon.warning -- "$*" 2>/dev/null || true
}

# Whatever ends this script early must leave no fault unguarded and no agent stopped. The shell runs the trap of EXIT only when it exits by
# itself; and a reader of its words that is gone ends nothing.
set_traps() {
    trap resume EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 131' QUIT
    trap 'exit 143' TERM
    trap '' PIPE
}

# Nothing is left to guard, or what is left is for the next version.
release() {
    trap - EXIT HUP INT QUIT TERM PIPE
}

# As it was before. An rpm has no script that would do it.
resume() {
    trap - EXIT
    trap '' HUP INT QUIT TERM
    rm -f "$restart" || true
    if [ -n "$guarded" ]; then
        systemctl start fracas-guard.path || true
    fi
    if [ -n "$ran" ]; then
        systemctl start fracas-agent.service || true
    fi
}

# The last guard runs the program that is about to change, and holds the journals that it is undoing. An older package has none.
end_guard() {
    if [ ! -d /run/systemd/system ] || [ ! -e "$guard" ]; then
        return 0
    fi
    if systemctl --quiet is-active fracas-guard.path; then
        guarded=yes
    fi
    systemctl stop fracas-guard.path fracas-guard.service || true
}

rewind() {
    [ -x "$agent" ] || return 0
    ran=
    guarded=
    set_traps
    if [ -d /run/systemd/system ]; then
        # A unit that failed a moment ago is to run again as well.
        case $(systemctl show --property=ActiveState fracas-agent.service) in
        *=active | *=activating | *=reloading | *=deactivating)
            ran=yes
            # For the script that runs after the upgrade; a full /run must not keep anything from being undone.
            { mkdir -p -m 0700 "${restart%/*}" && touch "$restart"; } || true
            ;;
        esac
        # Whatever its state: one that waits to be started again would come up while files change.
        systemctl stop fracas-agent.service || true
    fi
    end_guard
    if said=$("$agent" rescue --package 2>&1); then
        release
        rm -f "$state/unproven"
        return 0
    fi
    said=$(echo "$said" | tr -s '\n ' ' ' | cut -c 1-2000)
    reason=$(head -c 500 "$override" 2>/dev/null | tr '\n' ' ' | sed 's/^ *//; s/ *$//')
    if [ -n "$reason" ]; then
        log "$1 goes on although this host is not proven clean, because of $override ($reason): $said"
        # A purge keeps the journals while this file is there.
        line="$(date -u +%Y-%m-%dT%H:%M:%SZ) $1: $reason: $said"
        { mkdir -p -m 0700 "$state" && echo "$line" >>"$state/unproven"; } || log "$state/unproven could not be written"
        rm -f "$override"
        release
        return 0
    fi
    resume
    log "$1 is refused: this host is not proven clean: $said"
    cat >&2 <<END || true
'fracas-agent rescue' tries again, and 'fracas-agent doctor' names what is missing. If the fix is in the new package, go on without the
undo by writing the reason into a file, which is logged and used once:
    echo 'fixed by the new version' >$override
END
    release
    return 1
}

# For a removal, once its units are stopped: without their files the slice would stay until the next boot, and so would a unit that failed.
end_units() {
    if [ -d /run/systemd/system ]; then
        systemctl stop fracas.slice || true
        systemctl reset-failed fracas-agent.service fracas-guard.service fracas-guard.path fracas-rescue.service 2>/dev/null || true
    fi
}
