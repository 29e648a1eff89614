# shellcheck shell=bash
# Sets the directory of unpacked Debian packages ($packages), and apt's architecture and suite. To be sourced.
#
# With DEBIAN_ARCHITECTURE=i386 apt works for that architecture, and with DEBIAN_SUITE=bookworm-backports it prefers that
# suite: with the host's sources but lists of its own ($own_lists is set). The host need not know of either, and nothing
# of the host's changes.
packages=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/nested-host/packages
own_lists=''
if [[ -n ${DEBIAN_ARCHITECTURE:-}${DEBIAN_SUITE:-} ]]; then
    own_lists=yes
    packages+=${DEBIAN_ARCHITECTURE:+/$DEBIAN_ARCHITECTURE}${DEBIAN_SUITE:+/$DEBIAN_SUITE}
    mkdir -p "$packages"/.apt/{lists,archives}/partial
    : >"$packages/.apt/status"
    {
        if [[ -n ${DEBIAN_ARCHITECTURE:-} ]]; then
            printf 'APT::Architecture "%s";\n#clear APT::Architectures;\nAPT::Architectures { "%s"; };\n' "$DEBIAN_ARCHITECTURE"{,}
        fi
        if [[ -n ${DEBIAN_SUITE:-} ]]; then
            if [[ ! -e $packages/.apt/sources.list ]]; then
                policy=$(apt-cache policy)
                mirror=$(sed -n 's/^ *[0-9]* \(http[^ ]*\/debian\) .*/\1/p' <<<"$policy" | head -n 1)
                {
                    [[ ! -e /etc/apt/sources.list ]] || cat /etc/apt/sources.list
                    [[ $policy == *" $DEBIAN_SUITE/main "* ]] || echo "deb ${mirror:-http://deb.debian.org/debian} $DEBIAN_SUITE main"
                } >"$packages/.apt/.sources.$$"
                mv "$packages/.apt/.sources.$$" "$packages/.apt/sources.list"
            fi
            printf 'APT::Default-Release "%s";\nDir::Etc::sourcelist "%s";\n' "$DEBIAN_SUITE" "$packages/.apt/sources.list"
        fi
        cat <<CONFIG
Dir::State "$packages/.apt";
Dir::State::status "$packages/.apt/status";
Dir::Cache "$packages/.apt";
CONFIG
    } >"$packages/.apt/.config.$$"
    mv "$packages/.apt/.config.$$" "$packages/.apt/config"
    export APT_CONFIG=$packages/.apt/config
fi
mkdir -p "$packages"
