# shellcheck shell=bash
# Sourced by what makes a system's tree from Debian's packages. It needs a function die.

release=trixie # of Debian: what tests run in, on whatever machine

# One-line apt sources of that release: those of this machine, which has this or another Debian, or of the mirror whose
# URL DEBIAN_MIRROR is.
sources() {
    local codename
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        printf "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $DEBIAN_MIRROR %s main\n" \
            "$release" "$release-updates"
        return
    fi
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") ||
        die "this machine has no release of Debian: set DEBIAN_MIRROR to the URL of a Debian mirror"
    [ -n "$(apt-get indextargets)" ] || apt-get -qq update # as in a new container, where apt tells nothing
    # shellcheck disable=SC2016 # the fields are apt's, not the shell's
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)' 'Created-By: Packages' |
        awk -v codename="$codename" -v release="$release" '
            $2 == codename || index($2, codename "-") == 1 {
                signed = $4 ~ /^\// ? "[signed-by=" $4 "] " : ""
                sub(codename, release, $2)
                print "deb " signed $1, $2, $3
            }' | sort -u | grep . ||
        die "apt has no sources of $codename: set DEBIAN_MIRROR to the URL of a Debian mirror"
}

# bootstrap FORMAT TARGET PACKAGES [CUSTOMIZE...]: makes a minimal system with these packages.
# FORMAT is tar or directory; the variable `sources` holds what sources() printed.
bootstrap() {
    local format=$1 target=$2 include=$3 options=()
    shift 3
    while [ $# -gt 0 ]; do
        options+=("--customize-hook=$1")
        shift
    done
    apt-config dump | grep '^Acquire::' >"$target.apt"
    # its own pids and mounts: a package's script that starts something starts it there, and it ends there
    unshare --mount --pid --fork --kill-child --mount-proc \
        mmdebstrap --mode=root --variant=minbase --format="$format" --quiet --skip=check/qemu --aptopt="$target.apt" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$include" "${options[@]}" \
        '' "$target" - <<<"$sources"
    rm -f "$target.apt"
}
