#!/bin/sh
# Stands in for Apple's `container`: plays the recordings beside it. Each run takes the first recording of its own words that
# no run has taken; words that are not recorded are noted in `unknown`, which fails the test.

here=${0%/*}
asked=$(printf '%s\n' "$@")
printf '%s\n' "$*" >>"$here/asked"
for recording in "$here"/recordings/*; do
    if [ -e "$recording/pattern" ]; then
        pattern=$(cat "$recording/argv")
        # shellcheck disable=SC2254
        case $asked in $pattern) ;; *) continue ;; esac
    elif [ "$asked" != "$(cat "$recording/argv")" ]; then
        continue
    fi
    # Only one of several runs at once can make it.
    mkdir "$recording/taken" 2>/dev/null || continue
    case $(cat "$recording/manner") in
        plain) ;;
        hang) echo $$ >"$here/pid"; exec sleep 600 ;;
        endless) exec yes '{"id":"a"},' ;;
        late) sleep 0.5 ;;
    esac
    cat "$recording/stdout"
    cat "$recording/stderr" >&2
    exit "$(cat "$recording/code")"
done
printf '%s\n' "$*" >>"$here/unknown"
echo "not recorded: $*" >&2
exit 99
