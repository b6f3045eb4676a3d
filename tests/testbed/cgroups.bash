# shellcheck shell=bash
# Sourced by what gives its processes cgroups of their own, in every hierarchy of the machine. It needs a function die.

# "<directory> <mount options>" of each cgroup hierarchy of the machine that we are in.
hierarchies() {
    awk '{ dash = 0
           for (i = 1; i <= NF; i++) if ($i == "-") { dash = i; break }
           kind = $(dash + 1)
           if (kind == "cgroup" || kind == "cgroup2") print $5, kind, $NF }' /proc/self/mountinfo
}

# The cgroup of this process in the hierarchy with these options (as in /proc/self/cgroup).
own_cgroup() {
    awk -F: -v kind="$1" -v options=",$2," '
        kind == "cgroup2" && $1 == 0 { print $3; exit }
        kind == "cgroup" && $1 != 0 {
            split($2, names, ",")
            if (index(options, "," names[1] ",")) { print $3; exit }
        }' /proc/self/cgroup
}

# make_cgroups LIST NAME: makes a cgroup with that name and another one, `init`, in it, in each hierarchy below the
# caller's own cgroup; their paths go to the file LIST.
make_cgroups() {
    local at kind options parent own file
    : >"$1"
    while read -r at kind options; do
        parent=$at$(own_cgroup "$kind" "$options")
        own=${parent%/}/$2
        mkdir "$own" "$own/init"
        printf '%s\n' "$own" >>"$1"
        for file in cpuset.cpus cpuset.mems; do # empty in a new v1 cpuset, and then nothing may join
            if [ "$kind" != cgroup ] || [ ! -e "$own/$file" ]; then continue; fi
            cat "$parent/$file" >"$own/$file"
            cat "$own/$file" >"$own/init/$file"
        done
    done < <(hierarchies)
}

# join_cgroups LIST [/init]: moves the calling process to those cgroups.
join_cgroups() {
    local own
    while read -r own; do
        echo 0 >"$own${2:-}/cgroup.procs"
    done <"$1"
}

# remove_cgroups LIST: removes those cgroups and all below them; every process in them has ended.
remove_cgroups() {
    local own
    [ -e "$1" ] || return 0
    while read -r own; do
        for _ in $(seq 600); do # the kernel lets go of the dead a moment later
            [ -d "$own" ] || break
            find "$own" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        done
        [ ! -d "$own" ] || die "the cgroup $own cannot be removed: a process is still in it"
    done <"$1"
}
