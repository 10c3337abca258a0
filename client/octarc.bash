# SPDX-License-Identifier: Apache-2.0
# Completion for bash: verbs, then options of the verb as its own help tells them.
_octarc() {
    local word=${COMP_WORDS[COMP_CWORD]} verb= i
    local verbs='bench call cards chat check complete drain drill events help metrics models online plan ps pull rebalance run status tokenize top version'
    for ((i = 1; i < COMP_CWORD; i++)); do
        case " $verbs " in *" ${COMP_WORDS[i]} "*) verb=${COMP_WORDS[i]} && break ;; esac
    done
    case ${COMP_WORDS[COMP_CWORD - 1]} in
    -S | --socket | --against | --topology | --config | --to | --catalog | bench | plan | inspect)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    drill)
        mapfile -t COMPREPLY < <(compgen -W 'lose hang return corrupt kill-engine' -- "$word")
        return
        ;;
    pull)
        local names
        names=$(octarc --no-legend models 2>/dev/null | cut -d ' ' -f 1)
        mapfile -t COMPREPLY < <(compgen -W "$names" -- "$word"; compgen -f -- "$word")
        return
        ;;
    models)
        mapfile -t COMPREPLY < <(compgen -W 'inspect' -- "$word")
        return
        ;;
    check | drain | online | lose | hang | return | corrupt)
        mapfile -t COMPREPLY < <(compgen -W '0 1 2 3 4 5 6 7' -- "$word")
        return
        ;;
    help) verb= ;;
    esac
    if [[ $word == -* ]]; then
        local options
        options=$(octarc help $verb 2>/dev/null | grep -o -- '--[a-z-]*' | sort -u)
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    elif [[ -z $verb ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$word")
    fi
}
complete -F _octarc octarc
