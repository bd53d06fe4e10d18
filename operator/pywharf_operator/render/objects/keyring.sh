#!/bin/sh
# keyring: gives pip and uv the token that is mounted into this container, for one package server alone.
#
# pip and uv run `keyring get URL [USER]` if their keyring provider is `subprocess`. This program answers it with the
# token of the pod's ServiceAccount, if URL begins with this server's address and /repo/NAME/simple; otherwise it prints
# nothing and exits with 1, as if it knew no password. It needs nothing but a POSIX shell. The token is in no argument
# and no environment variable.
#
#   PYWHARF_TOKEN_FILE  the token's file; default /var/run/secrets/pywharf/token
#   PYWHARF_URL         the server's addresses, separated by spaces; default is the one below
set -fu
LC_ALL=C

urls=${PYWHARF_URL:-https://pywharf.invalid}
token_file=${PYWHARF_TOKEN_FILE:-/var/run/secrets/pywharf/token}
longest_token=8192
longest_text=2048

usage() {
    printf '%s\n' 'usage: keyring [--mode password|creds] [--output plain|json] get URL [USER]'
}

refuse() {
    printf 'keyring: %s\n' "$1" >&2
    exit "${2:-1}"
}

# Whether the text can be the path of a page or a file below /repo/.
is_index_path() {
    case $1 in
        *[!A-Za-z0-9._+~/-]* | *//* | */./* | */../* | */. | */.. | .*) return 1 ;;
    esac
    case ${1%%/*} in
        '') return 1 ;;
    esac
    case ${1#*/} in
        simple | simple/*) return 0 ;;
    esac
    return 1
}

# Whether the URL is one of the server's. It must be spelled as in pip.conf: scheme, host, port and /repo/ are compared
# as texts, so that no other spelling can mean another host.
is_of_server() {
    [ "${#1}" -le "$longest_text" ] || return 1
    for server in $urls; do
        server=${server%/}
        case $server in
            http://?* | https://?*) ;;
            *) continue ;;
        esac
        case $1 in
            "$server/repo/"*) is_index_path "${1#"$server/repo/"}" && return 0 ;;
        esac
    done
    return 1
}

# Print the text as a JSON string.
json() {
    rest=$1
    text=
    while [ -n "$rest" ]; do
        tail=${rest#?}
        char=${rest%"$tail"}
        case $char in
            '"' | '\') text="$text\\$char" ;;
            *) text=$text$char ;;
        esac
        rest=$tail
    done
    printf '"%s"' "$text"
}

mode=password
output=plain
action=
url=
user=
operands=0
only_operands=no
while [ $# -gt 0 ]; do
    case $only_operands$1 in
        no--) only_operands=yes ;;
        no--mode=*) mode=${1#--mode=} ;;
        no--output=*) output=${1#--output=} ;;
        no--mode | no--output)
            [ $# -ge 2 ] || refuse "$1 needs a value" 2
            case $1 in
                --mode) mode=$2 ;;
                *) output=$2 ;;
            esac
            shift
            ;;
        no-h | no--help)
            usage
            exit 0
            ;;
        no-*) refuse 'this keyring only knows: get URL [USER], --mode and --output' 2 ;;
        *)
            operands=$((operands + 1))
            case $operands in
                1) action=$1 ;;
                2) url=$1 ;;
                3) user=$1 ;;
                *) refuse 'too many arguments' 2 ;;
            esac
            ;;
    esac
    shift
done
case $mode in
    password | creds) ;;
    *) refuse 'the mode must be password or creds' 2 ;;
esac
case $output in
    plain | json) ;;
    *) refuse 'the output must be plain or json' 2 ;;
esac
case $action in
    get) [ "$operands" -ge 2 ] || refuse 'get needs a URL' 2 ;;
    set | del) refuse 'this keyring stores nothing: it only gives the token that is mounted into the pod' ;;
    *)
        usage >&2
        exit 2
        ;;
esac

is_of_server "$url" || exit 1
[ -n "$user" ] || user=__token__
case $user in
    *[[:cntrl:]]*) exit 1 ;;
esac
[ "${#user}" -le "$longest_text" ] || exit 1

[ -f "$token_file" ] && [ -r "$token_file" ] || refuse "the token $token_file is missing or not readable: mount a projected ServiceAccount token there, or name its file in PYWHARF_TOKEN_FILE"
token=
# Without a line end, read fails although it has read the whole token.
IFS= read -r token <"$token_file" || :
case $token in
    '' | *[!A-Za-z0-9._~+/=-]*) refuse "the file $token_file holds no token" ;;
esac
[ "${#token}" -le "$longest_token" ] || refuse "the file $token_file holds no token"

# printf is part of the shell, so the token is in no process list.
case $mode,$output in
    creds,json) printf '{"username": %s, "password": "%s"}\n' "$(json "$user")" "$token" ;;
    creds,plain) printf '%s\n%s\n' "$user" "$token" ;;
    password,json) printf '{"password": "%s"}\n' "$token" ;;
    password,plain) printf '%s\n' "$token" ;;
esac
