#!/bin/sh
# The container's ssh. It takes the command line of OpenSSH's ssh(1). A connection to this port under one of the user's
# own names is to a container, and goes to Dropbear's client, which must see the host key of the user's containers,
# whatever the caller's options say. Anything else goes to the image's own client. Dropbear's client gets translated
# options only: it gives several another meaning, and for some it succeeds without running anything. Variables begin
# with "_", so that they cannot be the caller's, which the clients inherit.
#
# The hook writes lines above this one which set
#   _port   the port of containers
#   _wait   how many seconds to wait for a container that does not answer yet
#   _key    the path of the user's key
#   _login  the first of the user's names
#   _names  all names under which the user can log in, a line each
: "${_port:?}" "${_wait:?}" "${_key:?}" "${_login:?}" "${_names:?}"
_alias=oci-hooks # in known_hosts: one line serves for all hosts and ports
_known_hosts=/opt/oci-hooks/ssh/known_hosts
_openssh_key=/opt/oci-hooks/ssh/id_openssh
_own_client=/opt/oci-hooks/ssh/bin/ssh.image
_dbclient=/opt/oci-hooks/ssh/dropbear/bin/dbclient
_quotes="\"'"

_host='' _user='' _ports='' _first_port='' _needs='' _wants='' _version=''
_agent='' _background='' _clear='' _null='' _session='' _tty='' _netcat=''
_options='' _forwards='' _foreign='' _count=0 _last='' # the three are lists of words for Dropbear's client

fail() {
    printf 'ssh: %s\n' "$1" >&2
    exit 255
}

need() { # what only OpenSSH's client can do
    _needs=${_needs:-$1}
}

add() { # LIST WORD...: each word becomes a variable, so that it stays as it is
    _list=$1
    while [ $# -gt 1 ]; do
        _count=$((_count + 1))
        eval "_word_$_count=\$2 _$_list=\"\$_$_list \\\"\\\$_word_$_count\\\"\""
        shift
    done
}

lower() {
    _lower=$1
    case $1 in
        *[ABCDEFGHIJKLMNOPQRSTUVWXYZ]*) ;;
        *) return ;;
    esac
    for _letter in Aa Bb Cc Dd Ee Ff Gg Hh Ii Jj Kk Ll Mm Nn Oo Pp Qq Rr Ss Tt Uu Vv Ww Xx Yy Zz; do
        while :; do
            case $_lower in
                *"${_letter%?}"*) _lower=${_lower%%"${_letter%?}"*}${_letter#?}${_lower#*"${_letter%?}"} ;;
                *) break ;;
            esac
        done
    done
}

is_own() { # NAME: is it one of the user's?
    case "
$_names
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
    _ports="$_ports $1 " _first_port=${_first_port:-$1}
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
        A) _agent=yes ;;
        a) _agent=no ;;
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
        f) _background=yes ;;
        g) add options -g ;;
        i) add foreign -i "$2" ;; # containers take the one key
        [LR]) take_forward "-$1" "$2" ;;
        l) _user=${_user:-$2} ;;
        N) _session=none ;;
        n) _null=yes ;;
        p) take_port "$2" ;;
        q) add options -q ;;
        S) [ "$2" = none ] || _wants=yes ;; # without OpenSSH there is no connection to share
        s) _session=subsystem ;;
        T) _tty=no ;;
        t)
            case $_tty in
                yes | force) _tty=force ;;
                *) _tty=yes ;;
            esac
            ;;
        V) _version=yes ;;
        W) _netcat=${_netcat:-$2} ;;
        y) add foreign -y ;;
        *) need "-$1" ;;
    esac
}

take_keyword() { # "KEYWORD=VALUE", "KEYWORD VALUE"
    _value=${1#"${1%%[![:space:]]*}"}
    _keyword=${_value%%[[:space:]=]*}
    _value=${_value#"$_keyword"}
    # shellcheck disable=SC2295 # characters of a bracket expression
    _value=${_value#"${_value%%[![:space:]=$_quotes]*}"}
    # shellcheck disable=SC2295 # likewise
    _value=${_value%"${_value##*[![:space:]$_quotes]}"}
    case $_keyword in
        *[$_quotes]*) fail "-o '$1': the option's name has quotes" ;;
        *) ;;
    esac
    lower "$_keyword"
    _keyword=$_lower
    lower "$_value"
    case $_keyword=$_lower in
        port=*) take_port "$_value" ;;
        user=*)
            case $_value in
                *[\\%\$$_quotes]*) is_own "$_value" || fail "-o '$1': give the name as it is" ;;
                *) ;;
            esac
            _user=${_user:-$_value}
            ;;
        identityfile=*) take i "$_value" ;;
        localforward=*' '*) take L "${_value%% *}:${_value##* }" ;;
        remoteforward=*' '*) take R "${_value%% *}:${_value##* }" ;;
        bindaddress=*) take b "$_value" ;;
        ciphers=*) take c "$_value" ;;
        macs=*) take m "$_value" ;;
        escapechar=*) take e "$_value" ;;
        controlpath=*) take S "$_value" ;;
        loglevel=quiet) take q ;;
        sessiontype=none) take N ;;
        sessiontype=subsystem) take s ;;
        gatewayports=yes | gatewayports=true) take g ;;
        stdinnull=yes | stdinnull=true) take n ;;
        forkafterauthentication=yes | forkafterauthentication=true) take f ;;
        clearallforwardings=yes | clearallforwardings=true) _clear=yes ;;
        forwardagent=yes | forwardagent=true) _agent=${_agent:-yes} ;;
        forwardagent=no | forwardagent=false) _agent=${_agent:-no} ;;
        requesttty=yes | requesttty=true) _tty=${_tty:-yes} ;;
        requesttty=no | requesttty=false) _tty=${_tty:-no} ;;
        requesttty=force | requesttty=auto) _tty=${_tty:-$_lower} ;;
        batchmode=yes | batchmode=no | exitonforwardfailure=yes | exitonforwardfailure=no)
            add options -o "$_keyword=$_lower"
            ;;
        batchmode=true | exitonforwardfailure=true) add options -o "$_keyword=yes" ;;
        batchmode=false | exitonforwardfailure=false) add options -o "$_keyword=no" ;;
        serveraliveinterval=none | connecttimeout=none) ;;
        serveraliveinterval=*[!0123456789]* | connecttimeout=*[!0123456789]*) need "-o $1" ;;
        serveraliveinterval=?* | connecttimeout=?*) add options -o "$_keyword=$_value" ;;
        stricthostkeychecking=* | userknownhostsfile=* | hostkeyalias=*) add foreign -o "$_keyword=$_value" ;;
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
    _host=${1#ssh://}
    case $_host in
        *@*)
            _user=${_user:-${_host%@*}}
            _host=${_host##*@}
            ;;
        *) ;;
    esac
    case $1 in
        ssh://*)
            _host=${_host%/}
            case $_host in
                *\]) ;;
                \[*\]:* | *:*)
                    take_port "${_host##*:}"
                    _host=${_host%:*}
                    ;;
                *) ;;
            esac
            ;;
        *) ;;
    esac
    case $_host in
        \[*\])
            _host=${_host#\[}
            _host=${_host%\]}
            ;;
        *) ;;
    esac
    case $_host in
        '' | -* | *[,/^]*) fail "'$1' is no destination: give [user@]host, and a port by -p" ;;
        *) ;;
    esac
    case $1 in
        -* | @* | ssh://@* | ssh://*[%\;]*@*) fail "'$1' is no destination: give [user@]host, and a port by -p" ;;
        *) ;;
    esac
}

read_arguments() {
    _words=$#
    while :; do
        OPTIND=1
        while getopts :46AaB:b:Cc:D:E:e:F:fGgI:i:J:KkL:l:Mm:NnO:o:P:p:Q:qR:S:sTtVvW:w:XxYy _option; do
            case $_option in
                o) take_keyword "$OPTARG" ;;
                [:?]) need "-$OPTARG" ;;
                *) take "$_option" "${OPTARG-}" ;;
            esac
        done
        eval "_last=\${$((OPTIND - 1))}"
        shift $((OPTIND - 1))
        { [ -z "$_host" ] && [ $# -gt 0 ]; } || break
        take_destination "$1"
        shift
        [ "$_last" != -- ] || break
    done
    _words=$((_words - $#))
}

is_container() {
    case ${_ports:- $_port } in # clients differ in which of several they take
        *" $_port "*) is_own "${_user:-$_login}" ;;
        *) return 1 ;;
    esac
}

is_openssh() {
    [ -x "$_own_client" ] || return 1
    case $("$_own_client" -V 2>&1) in
        OpenSSH*) return 0 ;;
        *) return 1 ;;
    esac
}

read_arguments "$@"
if [ -n "$_version" ]; then
    [ ! -x "$_own_client" ] || exec "$_own_client" -V
    exec "$_dbclient" -V
elif [ -z "$_host" ] || ! is_container; then
    [ ! -x "$_own_client" ] || exec "$_own_client" "$@"
    [ -n "$_host" ] || fail 'usage: ssh [options] [user@]host [command]'
    _target=$_foreign
    [ -z "$_first_port" ] || add target -p "$_first_port"
    [ -z "$_user" ] || add target -l "$_user"
else
    _target=''
    if [ -n "$_needs$_wants" ] && is_openssh; then
        exec "$_own_client" -p "$_port" -l "${_user:-$_login}" -i "$_openssh_key" -o IdentitiesOnly=yes \
            -o StrictHostKeyChecking=yes -o "HostKeyAlias=$_alias" -o "UserKnownHostsFile=$_known_hosts" \
            -o GlobalKnownHostsFile=/dev/null -o KnownHostsCommand=none -o VerifyHostKeyDNS=no -o UpdateHostKeys=no \
            -o NoHostAuthenticationForLocalhost=no -o ConnectionAttempts=$((_wait + 1)) "$@"
    fi
    add target -o StrictHostKeyChecking=yes -o "HostKeyAlias=$_alias" -o "UserKnownHostsFile=$_known_hosts" \
        -p "$_port" -i "$_key" -l "${_user:-$_login}"
    [ "$_wait" -eq 0 ] || add target -o "ConnectWait=$_wait"
fi
[ -z "$_needs" ] || fail "$_needs takes OpenSSH's client, which this image lacks: leave it out, or add the client"
case $_user in
    *,*) fail "the user's name '$_user' has a comma" ;; # it would be a host on the way
    *) ;;
esac

shift "$_words"
[ "$_clear" = yes ] || _options="$_options$_forwards"
[ "$_agent" != yes ] || add options -A
case $_tty in
    force) add options -t ;;
    yes)
        if [ -z "$_null$_background" ] && [ -t 0 ]; then
            add options -t
        else
            printf '%s\n' 'ssh: no terminal for the command: standard input is none' >&2
        fi
        ;;
    no) add options -T ;;
    *) ;;
esac
case $_netcat in
    '') ;;
    *[][]* | *:*:*) fail "-W '$_netcat': give HOST:PORT" ;;
    *) add options -B "$_netcat" ;;
esac
case $_session in
    none) add options -N ;;
    subsystem) add options -s ;;
    *) ;;
esac
case $#,$_session,$_background,$_netcat in
    0,subsystem,*) fail '-s takes the name of a subsystem' ;;
    0,none,* | 0,*,,* ) ;;
    0,*) fail '-f takes a command, or -N' ;;
    *,) ;;
    *) fail '-W takes no command' ;;
esac
[ -z "$_background" ] || add options -f
case ${1-} in
    -*) set -- '' "$@" ;; # else it would be an option; a leading blank is nothing to the shell there
    *) ;;
esac
eval "set -- $_target $_options \"\$_host\" \"\$@\""
[ -z "$_null$_background" ] || exec </dev/null
exec "$_dbclient" "$@"
