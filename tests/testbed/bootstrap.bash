# shellcheck shell=bash
# Sourced by what makes a system's tree from the packages of this machine's own distribution. It needs a function die.

# One-line apt sources of this machine, those of its own release only.
sources() {
    local codename
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || die "/etc/os-release has no VERSION_CODENAME: images are made on Debian or Ubuntu"
    # shellcheck disable=SC2016 # the fields are apt's, not the shell's
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)' 'Created-By: Packages' |
        awk -v codename="$codename" '
            $2 == codename || index($2, codename "-") == 1 {
                signed = $4 ~ /^\// ? "[signed-by=" $4 "] " : ""
                print "deb " signed $1, $2, $3
            }' | sort -u | grep . || die "apt knows no source for this release: see 'apt-get indextargets'"
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
