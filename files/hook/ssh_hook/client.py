# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh of the container: a shell script, and the host key that it trusts."""

from __future__ import annotations

import os

from .content import BASE, DROPBEAR, quote

KNOWN_HOSTS = f"{BASE}/known_hosts"
OWN_CLIENT = f"{BASE}/bin/ssh.image"
OPENSSH_KEY = f"{BASE}/id_openssh"
_ALIAS = "oci-hooks"  # in known_hosts: one line serves for all hosts and ports

_SCRIPT = r"""
# Takes the command line of OpenSSH's ssh(1). A container is reached at this port by one of the user's own names; its host
# key is the one that all containers of the user have, whatever the caller's options say. Anything else is for the
# image's own client. Dropbear's client gets what it understands alone, and never an option as the caller wrote it: it
# takes several for others, and some for a reason to succeed without running anything.
host='' user='' ports='' first_port='' needs='' wants='' version=''
agent='' background='' clear='' null='' session='' tty='' netcat=''
options='' forwards='' foreign='' count=0 last='' # the three are lists of words for Dropbear's client

fail() {
    printf 'ssh: %s\n' "$1" >&2
    exit 255
}

need() { # what only OpenSSH's client can do
    needs=${needs:-$1}
}

add() { # LIST WORD...: each word becomes a variable, so that it stays as it is
    list=$1
    while [ $# -gt 1 ]; do
        count=$((count + 1))
        eval "word_$count=\$2 $list=\"\$$list \\\"\\\$word_$count\\\"\""
        shift
    done
}

lower() {
    lower=$1
    case $1 in
        *[ABCDEFGHIJKLMNOPQRSTUVWXYZ]*) ;;
        *) return ;;
    esac
    for letter in Aa Bb Cc Dd Ee Ff Gg Hh Ii Jj Kk Ll Mm Nn Oo Pp Qq Rr Ss Tt Uu Vv Ww Xx Yy Zz; do
        while :; do
            case $lower in
                *"${letter%?}"*) lower=${lower%%"${letter%?}"*}${letter#?}${lower#*"${letter%?}"} ;;
                *) break ;;
            esac
        done
    done
}

is_own() { # NAME: is it one of the user's?
    case "
$names
" in
        *"
$1
"*) return 0 ;;
        *) return 1 ;;
    esac
}

take_port() {
    case $1 in
        '' | 0* | *[!0123456789]* | ??????*) fail "the port '$1' is no number from 1 to 65535" ;;
        *) [ "$1" -le 65535 ] || fail "the port $1 is larger than 65535" ;;
    esac
    ports="$ports $1 " first_port=${first_port:-$1}
}

take_forward() { # -L|-R [ADDRESS:]PORT:HOST:PORT
    case $2 in
        *[][/]* | *:*:*:*:* | :*) need "$1 $2" ;;
        \*:*:*:*) add forwards "$1" "${2#\*}" ;;
        *:*:*) add forwards "$1" "$2" ;;
        *) need "$1 $2" ;;
    esac
}

take() { # LETTER VALUE
    case $1 in
        [46CKMPYXkvx]) ;; # no matter here, or never on
        A) agent=yes ;;
        a) agent=no ;;
        b) add options -b "[$2]" ;;
        [cm])
            case $2 in
                '' | help | [-+^]*) need "-$1 $2" ;;
                *) add options "-$1" "$2" ;;
            esac
            ;;
        E) add options -E "$2" ;;
        e)
            case $2 in
                none | \~) ;;
                *) need "-e $2" ;;
            esac
            ;;
        F)
            case $2 in
                none | /dev/null) ;;
                *) need "-F $2" ;;
            esac
            ;;
        f) background=yes ;;
        g) add options -g ;;
        i) add foreign -i "$2" ;; # containers take the one key
        [LR]) take_forward "-$1" "$2" ;;
        l) user=${user:-$2} ;;
        N) session=none ;;
        n) null=yes ;;
        p) take_port "$2" ;;
        q) add options -q ;;
        S) [ "$2" = none ] || wants=yes ;; # without OpenSSH there is no connection to share
        s) session=subsystem ;;
        T) tty=no ;;
        t)
            case $tty in
                yes | force) tty=force ;;
                *) tty=yes ;;
            esac
            ;;
        V) version=yes ;;
        W) netcat=${netcat:-$2} ;;
        y) add foreign -y ;;
        *) need "-$1" ;;
    esac
}

take_keyword() { # "KEYWORD=VALUE", "KEYWORD VALUE"
    value=${1#"${1%%[![:space:]]*}"}
    keyword=${value%%[[:space:]=]*}
    value=${value#"$keyword"}
    value=${value#"${value%%[![:space:]=$quotes]*}"}
    value=${value%"${value##*[![:space:]$quotes]}"}
    case $keyword in
        *[$quotes]*) fail "-o '$1': the option's name has quotes" ;;
        *) ;;
    esac
    lower "$keyword"
    keyword=$lower
    lower "$value"
    case $keyword=$lower in
        port=*) take_port "$value" ;;
        user=*)
            case $value in
                *[\\%\$$quotes]*) is_own "$value" || fail "-o '$1': give the name as it is" ;;
                *) ;;
            esac
            user=${user:-$value}
            ;;
        identityfile=*) take i "$value" ;;
        localforward=*' '*) take L "${value%% *}:${value##* }" ;;
        remoteforward=*' '*) take R "${value%% *}:${value##* }" ;;
        bindaddress=*) take b "$value" ;;
        ciphers=*) take c "$value" ;;
        macs=*) take m "$value" ;;
        escapechar=*) take e "$value" ;;
        controlpath=*) take S "$value" ;;
        loglevel=quiet) take q ;;
        sessiontype=none) take N ;;
        sessiontype=subsystem) take s ;;
        gatewayports=yes | gatewayports=true) take g ;;
        stdinnull=yes | stdinnull=true) take n ;;
        forkafterauthentication=yes | forkafterauthentication=true) take f ;;
        clearallforwardings=yes | clearallforwardings=true) clear=yes ;;
        forwardagent=yes | forwardagent=true) agent=${agent:-yes} ;;
        forwardagent=no | forwardagent=false) agent=${agent:-no} ;;
        requesttty=yes | requesttty=true) tty=${tty:-yes} ;;
        requesttty=no | requesttty=false) tty=${tty:-no} ;;
        requesttty=force | requesttty=auto) tty=${tty:-$lower} ;;
        batchmode=yes | batchmode=no | exitonforwardfailure=yes | exitonforwardfailure=no)
            add options -o "$keyword=$lower"
            ;;
        batchmode=true | exitonforwardfailure=true) add options -o "$keyword=yes" ;;
        batchmode=false | exitonforwardfailure=false) add options -o "$keyword=no" ;;
        serveraliveinterval=none | connecttimeout=none) ;;
        serveraliveinterval=*[!0123456789]* | connecttimeout=*[!0123456789]*) need "-o $1" ;;
        serveraliveinterval=?* | connecttimeout=?*) add options -o "$keyword=$value" ;;
        stricthostkeychecking=* | userknownhostsfile=* | hostkeyalias=*) add foreign -o "$keyword=$value" ;;
        # They take no effect here: what is asked for is how it is, or is about other keys, names and files.
        proxycommand=none | proxyjump=none | remotecommand=none | tunnel=no | tunnel=false | sessiontype=default | \
            gatewayports=no | gatewayports=false | stdinnull=no | stdinnull=false | permitlocalcommand=no | \
            permitlocalcommand=false | forkafterauthentication=no | forkafterauthentication=false | \
            clearallforwardings=no | clearallforwardings=false | canonicalizehostname=no | canonicalizehostname=none) ;;
        addkeystoagent=* | addressfamily=* | casignaturealgorithms=* | certificatefile=* | checkhostip=* | \
            compression=* | connectionattempts=* | controlmaster=* | controlpersist=* | \
            enableescapecommandline=* | fingerprinthash=* | forwardx11=* | forwardx11timeout=* | \
            forwardx11trusted=* | globalknownhostsfile=* | gssapi*=* | hashknownhosts=* | \
            hostbased*=* | hostkeyalgorithms=* | identitiesonly=* | identityagent=* | ignoreunknown=* | ipqos=* | \
            challengeresponseauthentication=* | kbdinteractive*=* | kexalgorithms=* | knownhostscommand=* | \
            localcommand=* | loglevel=* | logverbose=* | nohostauthenticationforlocalhost=* | \
            numberofpasswordprompts=* | obscurekeystroketiming=* | passwordauthentication=* | pkcs11provider=* | \
            preferredauthentications=* | protocol=* | pubkey*=* | rekeylimit=* | requiredrsasize=* | \
            revokedhostkeys=* | securitykeyprovider=* | sendenv=* | serveralivecountmax=* | setenv=* | \
            streamlocalbind*=* | syslogfacility=* | tag=* | tcpkeepalive=* | updatehostkeys=* | \
            verifyhostkeydns=* | visualhostkey=* | warnweakcrypto=* | xauthlocation=*) ;;
        *) need "-o $1" ;;
    esac
}

take_destination() { # [USER@]HOST, ssh://[USER@]HOST[:PORT]
    host=${1#ssh://}
    case $host in
        *@*)
            user=${user:-${host%@*}}
            host=${host##*@}
            ;;
        *) ;;
    esac
    case $1 in
        ssh://*)
            host=${host%/}
            case $host in
                *\]) ;;
                \[*\]:* | *:*)
                    take_port "${host##*:}"
                    host=${host%:*}
                    ;;
                *) ;;
            esac
            ;;
        *) ;;
    esac
    case $host in
        \[*\])
            host=${host#\[}
            host=${host%\]}
            ;;
        *) ;;
    esac
    case $host in
        '' | -* | *[,/^]*) fail "'$1' is no destination: give [user@]host, and a port by -p" ;;
        *) ;;
    esac
    case $1 in
        -* | @* | ssh://@*) fail "'$1' is no destination: give [user@]host, and a port by -p" ;;
        *) ;;
    esac
}

read_arguments() {
    words=$#
    while :; do
        OPTIND=1
        while getopts :46AaB:b:Cc:D:E:e:F:fGgI:i:J:KkL:l:Mm:NnO:o:P:p:Q:qR:S:sTtVvW:w:XxYy option; do
            case $option in
                o) take_keyword "$OPTARG" ;;
                [:?]) need "-$OPTARG" ;;
                *) take "$option" "${OPTARG-}" ;;
            esac
        done
        eval "last=\${$((OPTIND - 1))}"
        shift $((OPTIND - 1))
        [ -z "$host" ] && [ $# -gt 0 ] || break
        take_destination "$1"
        shift
        [ "$last" != -- ] || break
    done
    words=$((words - $#))
}

is_container() {
    case ${ports:- $port } in # clients differ in which of several they take
        *" $port "*) is_own "${user:-$login}" ;;
        *) return 1 ;;
    esac
}

is_openssh() {
    [ -x "$own_client" ] || return 1
    case $("$own_client" -V 2>&1) in
        OpenSSH*) return 0 ;;
        *) return 1 ;;
    esac
}

read_arguments "$@"
if [ -n "$version" ]; then
    [ ! -x "$own_client" ] || exec "$own_client" -V
    exec "$dbclient" -V
elif [ -z "$host" ] || ! is_container; then
    [ ! -x "$own_client" ] || exec "$own_client" "$@"
    [ -n "$host" ] || fail 'usage: ssh [options] [user@]host [command]'
    target=$foreign
    [ -z "$first_port" ] || add target -p "$first_port"
    [ -z "$user" ] || add target -l "$user"
else
    target=''
    if [ -n "$needs$wants" ] && is_openssh; then
        exec "$own_client" -p "$port" -l "${user:-$login}" -i "$openssh_key" -o IdentitiesOnly=yes \
            -o StrictHostKeyChecking=yes -o "HostKeyAlias=$alias" -o "UserKnownHostsFile=$known_hosts" \
            -o GlobalKnownHostsFile=/dev/null -o KnownHostsCommand=none -o VerifyHostKeyDNS=no -o UpdateHostKeys=no \
            -o NoHostAuthenticationForLocalhost=no -o ConnectionAttempts=$((wait + 1)) "$@"
    fi
    add target -o StrictHostKeyChecking=yes -o "HostKeyAlias=$alias" -o "UserKnownHostsFile=$known_hosts" \
        -p "$port" -i "$key" -l "${user:-$login}"
    [ "$wait" -eq 0 ] || add target -o "ConnectWait=$wait"
fi
[ -z "$needs" ] || fail "$needs takes OpenSSH's client, which this image lacks: leave it out, or add the client"
case $user in
    *,*) fail "the user's name '$user' has a comma" ;; # it would be a host on the way
    *) ;;
esac

shift "$words"
[ "$clear" = yes ] || options="$options$forwards"
[ "$agent" != yes ] || add options -A
case $tty in
    force) add options -t ;;
    yes)
        if [ -z "$null$background" ] && [ -t 0 ]; then
            add options -t
        else
            printf '%s\n' 'ssh: no terminal for the command: standard input is none' >&2
        fi
        ;;
    no) add options -T ;;
    *) ;;
esac
case $netcat in
    '') ;;
    *[][]* | *:*:*) fail "-W '$netcat': give HOST:PORT" ;;
    *) add options -B "$netcat" ;;
esac
case $session in
    none) add options -N ;;
    subsystem) add options -s ;;
    *) ;;
esac
case $#,$session,$background,$netcat in
    0,subsystem,*) fail '-s takes the name of a subsystem' ;;
    0,none,* | 0,*,,* ) ;;
    0,*) fail '-f takes a command, or -N' ;;
    *,) ;;
    *) fail '-W takes no command' ;;
esac
[ -z "$background" ] || add options -f
case ${1-} in
    -*) set -- '' "$@" ;; # else it would be an option; a leading blank is nothing to the shell there
    *) ;;
esac
eval "set -- $target $options \"\$host\" \"\$@\""
[ -z "$null$background" ] || exec </dev/null
exec "$dbclient" "$@"
"""


def script(port: int, wait: int, private_key: str, login_name: str, names: list[str]) -> bytes:
    """The text of ssh. `port` is that of containers, `wait` the seconds to wait for one that does not answer yet,
    `private_key` the path of the user's key, and `names` all names under which the user can log in, of which
    `login_name` is the first choice.
    """
    settings = {
        "port": str(port),
        "wait": str(wait),
        "key": private_key,
        "login": login_name,
        "names": "\n".join(names),
        "alias": _ALIAS,
        "known_hosts": KNOWN_HOSTS,
        "openssh_key": OPENSSH_KEY,
        "own_client": OWN_CLIENT,
        "dbclient": f"{DROPBEAR}/bin/dbclient",
        "quotes": "\"'",
    }
    lines = [f"{name}={quote(value)}\n" for name, value in settings.items()]
    return os.fsencode("#!/bin/sh\n" + "".join(lines) + _SCRIPT)


def known_hosts(public_key: str) -> bytes:
    """The file of trusted host keys with the one that all containers of the user have, ``<type> <base64>``."""
    return f"{_ALIAS} {public_key}\n".encode()
