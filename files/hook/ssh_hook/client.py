# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh of the container: a shell script, and the host key that it trusts."""

from __future__ import annotations

import os

from .content import BASE, DROPBEAR, quote

KNOWN_HOSTS = f"{BASE}/known_hosts"
OWN_CLIENT = f"{BASE}/bin/ssh.image"
_ALIAS = "oci-hooks"  # in known_hosts: one line serves for all hosts and ports

# The options of OpenSSH's ssh(1), as callers pass them; those after the host are options too.
_SCRIPT = r"""
# A container is reached at this port by one of the user's own names. Its host key is the one that all containers of the
# user have, and no option of the caller's changes that. Anything else is for the image's own client.
destination='' ports='' user=''

read_option() {
    value=${1#*[= ]}
    value=${value#"${value%%[!= ]*}"}
    case $1 in
        [Pp][Oo][Rr][Tt][=\ ]*) ports="$ports $value " ;;
        [Uu][Ss][Ee][Rr][=\ ]*) user=${user:-$value} ;;
    esac
}

read_arguments() {
    while [ $# -gt 0 ]; do
        OPTIND=1
        while getopts :46AaB:b:Cc:D:E:e:F:fGgI:i:J:KkL:l:Mm:NnO:o:P:p:Q:qR:S:sTtVvW:w:XxYy option; do
            case $option in
                p) ports="$ports $OPTARG " ;;
                l) user=${user:-$OPTARG} ;;
                o) read_option "$OPTARG" ;;
                *) ;;
            esac
        done
        shift $((OPTIND - 1))
        [ -z "$destination" ] || return 0
        destination=${1-}
        [ $# -eq 0 ] || shift
    done
}

is_container() {
    case $destination in
        '' | *,* | *://*) return 1 ;;
        *[/^]*) ports="$ports ${destination##*[/^]} " ;;
        *) ;;
    esac
    case $destination in
        *@*) user=${user:-${destination%@*}} ;;
        *) ;;
    esac
    case ${ports:- $port } in # clients differ in which of several they take
        *" $port "*) ;;
        *) return 1 ;;
    esac
    case "
$names
" in
        *"
${user:-$login}
"*) return 0 ;;
        *) return 1 ;;
    esac
}

read_arguments "$@"
if is_container; then
    exec "$dbclient" -o StrictHostKeyChecking=yes -o "HostKeyAlias=$alias" -o "UserKnownHostsFile=$known_hosts" \
        -p "$port" -i "$key" -l "$login" "$@"
fi
[ ! -x "$own_client" ] || exec "$own_client" "$@"
exec "$dbclient" "$@"
"""


def script(port: int, private_key: str, login_name: str, names: list[str]) -> bytes:
    """The text of ssh. `port` is that of containers, `private_key` the path of the user's key, and `names` all names
    under which the user can log in, of which `login_name` is the first choice.
    """
    settings = {
        "port": str(port),
        "key": private_key,
        "login": login_name,
        "names": "\n".join(names),
        "alias": _ALIAS,
        "known_hosts": KNOWN_HOSTS,
        "own_client": OWN_CLIENT,
        "dbclient": f"{DROPBEAR}/bin/dbclient",
    }
    lines = [f"{name}={quote(value)}\n" for name, value in settings.items()]
    return os.fsencode("#!/bin/sh\n" + "".join(lines) + _SCRIPT)


def known_hosts(public_key: str) -> bytes:
    """The file of trusted host keys with the one that all containers of the user have, ``<type> <base64>``."""
    return f"{_ALIAS} {public_key}\n".encode()
