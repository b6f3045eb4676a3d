# Sourced by the demo's scripts: paths, and functions that run commands in the bed with the cluster.
# shellcheck shell=bash
repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
testbed=$repo/tests/testbed
if [ ! -e /etc/testbed ] || [ "$repo" != /srv/checkout ]; then
    exec "$testbed/system" "demo/${0##*/}" "$@"
fi
place=${DEMO_DIR:-$repo/.cache/demo} # the test of the demo uses another directory
export TB_DIR=$place/bed
export ANSIBLE_CONFIG=$repo/demo/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$place ANSIBLE_HOME=$place/ansible
export PATH=$repo/.venv/bin:$PATH

in_bed() {
    "$testbed/bed" exec "$@"
}

on_node() {
    in_bed "$testbed/cluster" ssh "$@"
}

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "The demo creates namespaces and mounts, so it needs root: run it with sudo."
}
