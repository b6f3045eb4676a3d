# bash completion for ssh_hook: bash-completion loads it, or source it by hand.
# shellcheck shell=bash

_ssh_hook() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        options="keygen check-user-has-sshkeys client-config connect wait status logins why doctor dev options attach detach sweep refresh-passwd prolog epilog --help --version"
    else
        case $previous in
            --hostfile | --metrics)
                mapfile -t COMPREPLY < <(compgen -f -- "$word")
                return
                ;;
        esac
        case ${COMP_WORDS[1]} in
            keygen) options="--overwrite" ;;
            client-config) options="--hostfile --port --jump --via --keys --install --uninstall" ;;
            connect) options="--job --name --via --wait" ;;
            dev) options="--new --start --cancel --log --connect --has --terminal --via" ;;
            wait) options="--hostfile --port --job --timeout" ;;
            status) options="--json --hosts" ;;
            options) options="--engine --port --hosts --hostfile --wait --set" ;;
            logins) options="--json --since" ;;
            why) options="--json --job" ;;
            doctor) options="--json --node --probe" ;;
            sweep) options="--metrics" ;;
            attach) options="--name --instance --port --without-seccomp" ;;
            detach) options="--name --instance" ;;
            *) options="" ;;
        esac
        options="$options --verbose --debug --help --version"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -F _ssh_hook ssh_hook
