#!/bin/sh
# Says what Dropbear and OpenSSH think of a key set: oracle.sh DIRECTORY UID HOST_KEY...
set -eu
directory=$1 uid=$2
shift 2 # the file names of the host keys are left
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Owner and mode of all that was made, up to the home.
find "$directory" "$directory/.." "$directory/../.." -maxdepth 0 ! \( -uid "$uid" -gid "$uid" -perm 0700 \) >"$scratch/wrong"
find "$directory" -mindepth 1 ! \( -type f -uid "$uid" -gid "$uid" -perm 0600 \) >>"$scratch/wrong"
[ ! -s "$scratch/wrong" ] || { echo 'wrong owner or mode:' && cat "$scratch/wrong" && exit 1; }
[ "$(find "$directory" -type f | wc -l)" -eq $(($# + 2)) ]

dropbearkey -y -f "$directory/id_dropbear" |
    sed -n -e 's/^\(ssh-[^ ]*\|ecdsa-[^ ]*\) \([^ ]*\).*/dropbearkey \1 \2/p' -e 's/^Fingerprint: /dropbearkey /p'
ssh-keygen -lf "$directory/authorized_keys" | sed 's/^[0-9]* \([^ ]*\) .*/ssh-keygen \1/'

# Dropbear's own reading and writing gives the same bytes.
for key in id_dropbear "$@"; do
    dropbearconvert dropbear openssh "$directory/$key" "$scratch/openssh" 2>"$scratch/log" || { cat "$scratch/log" && exit 1; }
    dropbearconvert openssh dropbear "$scratch/openssh" "$scratch/dropbear" 2>"$scratch/log" || { cat "$scratch/log" && exit 1; }
    cmp "$directory/$key" "$scratch/dropbear"
    rm "$scratch/openssh" "$scratch/dropbear"
done
echo 'well formed'
