# Makes the users and folders of a package: $1 names it, the others are its users, where there is no systemd to make them.
make_users() {
    package=$1
    shift
    if command -v systemd-sysusers >/dev/null 2>&1; then
        systemd-sysusers "$package.conf"
    else
        for user in "$@"; do
            if ! getent passwd "$user" >/dev/null; then
                useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin "$user"
            fi
        done
    fi
    if command -v systemd-tmpfiles >/dev/null 2>&1; then
        systemd-tmpfiles --create "$package.conf" || true
    fi
}
