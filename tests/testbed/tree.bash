# shellcheck shell=bash
# Sourced by what runs commands in a Debian 13 of their own (system, bare): makes its tree, and enters it. It needs
# functions die and mount_checkout.
checkout=/srv/checkout # where the checkout is in there, wherever it is outside: all users may read it
# environment variables
certificates='CERT|SSL|CA_BUNDLE|CAINFO'
downloads='_(proxy|PROXY)$|^PIP_((EXTRA_)?INDEX_URL|TRUSTED_HOST|PROXY|RETRIES|(DEFAULT_)?TIMEOUT)$'
testbed=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=tests/testbed/bootstrap.bash
. "$testbed/bootstrap.bash"

# check_machine DIRECTORY: what is asked of this machine, to have a tree there.
check_machine() {
    local lacks=() kernel
    kernel=$(uname -r)
    [ "$(printf '%s\n' 5.10 "$kernel" | sort -V | head -n 1)" = 5.10 ] || lacks+=("Linux 5.10 (it has $kernel)")
    command -v git >/dev/null || lacks+=(git)
    command -v mmdebstrap apt-get >/dev/null || lacks+=("mmdebstrap or apt")
    [ "$(df --output=avail --block-size=1M "$1" | tail -n 1)" -ge 6000 ] || lacks+=("6 GB of free space in $1")
    [ "${#lacks[@]}" = 0 ] || die "this machine lacks $(printf '%s; ' "${lacks[@]}")provide it, and run this again"
    command -v mmdebstrap >/dev/null && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
        "$testbed/packages" --only mmdebstrap debian-archive-keyring
}

# make_tree TREE LOG: with git, make and Python, this machine's settings of downloads, and /etc/testbed, which tells
# that it is such a tree.
make_tree() {
    local started=$SECONDS status
    printf 'Debian 13 for the tests: making it ...'
    set +e # a list with || would take `set -e` from the commands
    (
        set -e
        bootstrap directory "$1" git,make,python3
        copy_settings "$1"
        mkdir "$1$checkout"
        git config --file "$1/etc/gitconfig" safe.directory "$checkout" # its owner need not be root
        : >"$1/etc/testbed"
    ) >"$2" 2>&1
    status=$?
    set -e
    if [ "$status" != 0 ]; then
        printf '\n'
        tail -n 20 "$2" >&2
        die "it could not be made (log: $2)"
    fi
    printf ' %s s\n' "$((SECONDS - started))"
}

copy_settings() {
    local tree=$1 path name
    for path in /etc/ssl/certs /usr/share/ca-certificates /usr/local/share/ca-certificates \
        /etc/apt/keyrings /etc/apt/trusted.gpg.d /usr/share/keyrings; do
        [ -e "$path" ] || continue
        mkdir -p "$tree${path%/*}" # and no `cp --parents`, which fails in Debian 12's coreutils
        cp -a "$path" "$tree${path%/*}/"
    done
    for name in $(compgen -e | grep -E "$certificates"); do # they may be anywhere
        [ -f "${!name}" ] || continue
        mkdir -p "$tree$(dirname "${!name}")"
        cp -L "${!name}" "$tree${!name}"
    done
    for path in /etc/hosts /etc/resolv.conf; do
        cp -L "$path" "$tree$path"
    done
    for path in /etc/pip.conf /etc/xdg/pip/pip.conf ~/.pip/pip.conf ~/.config/pip/pip.conf; do
        [ -f "$path" ] || continue
        name=$tree${path/#"$HOME"//root}
        mkdir -p "$(dirname "$name")"
        sed -E '/^ *(constraint|find-links) *=/d' "$path" >"$name" # they name files of this machine
    done
}

# enter_tree TREE DIRECTORY VARIABLES CMD...: in a mount namespace, makes the tree the root and becomes CMD, in that
# directory there, with those environment variables whose names match VARIABLES, an extended regular expression, or tell
# how to download.
enter_tree() {
    local tree=$1 directory=$2 names="$certificates|$downloads|$3" name variables=()
    shift 3
    mount --bind "$tree" "$tree" # pivot_root wants a mount
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts "$tree/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
    mount_checkout
    for name in $(compgen -e | grep -E "$names"); do
        variables+=("$name=${!name}")
    done
    cd "$tree"
    pivot_root . mnt
    cd "$directory"
    umount -l /mnt
    umask 022
    exec env -i "${variables[@]}" HOME=/root LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
