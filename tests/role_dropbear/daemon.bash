# shellcheck shell=bash
# Sourced inside `alone`: a Dropbear daemon with keys of its own, on port 2222 of loopback. HOST_KEY and LOGIN_KEY in the
# environment are the keys' types, ecdsa or ed25519.

keys=/mnt/home/.ssh
listen=(-p 127.0.0.1:2222) # dropbear's options
# ssh's options for this daemon
options=(-F none -o BatchMode=yes -o "UserKnownHostsFile=$keys/known_hosts" -o StrictHostKeyChecking=yes
    -p 2222 -i "$keys/id")

# make_keys DROPBEARKEY...: with this command
make_keys() {
    mkdir -m 0700 "$keys"
    "$@" -t "${HOST_KEY:-ecdsa}" -f "$keys/host_key" >/dev/null
    "$@" -y -f "$keys/host_key" | sed -n 's/^\(\(ecdsa\|ssh\)-[^ ]* [^ ]*\).*/[127.0.0.1]:2222 \1/p' >"$keys/known_hosts"
    ssh-keygen -q -t "${LOGIN_KEY:-ed25519}" -N '' -f "$keys/id"
    install -m 0600 "$keys/id.pub" "$keys/authorized_keys"
}

# start_daemon DROPBEAR...: with this command and environment, and wait until it listens
start_daemon() {
    "$@" -F -E -e "${listen[@]}" -r "$keys/host_key" -P /mnt/daemon.pid 2>/mnt/daemon.log &
    for _ in $(seq 600); do
        [ ! -s /mnt/daemon.pid ] || return 0
        sleep 0.1
    done
    cat /mnt/daemon.log >&2
    return 1
}

# log_in SSH... COMMAND: with this command; stdin goes to the session
log_in() {
    "${@:1:$#-1}" "${options[@]}" root@127.0.0.1 "${@: -1}" 2>>/mnt/client.log
}

# add_alice: a user of uid 1234, with keys as root's
add_alice() {
    cp -r /mnt/home /mnt/alice
    chown -R 1234:99 /mnt/alice
    echo alice:x:1234:99::/mnt/alice:/bin/sh >>/mnt/passwd
}
