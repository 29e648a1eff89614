# shellcheck shell=bash
# Sets the directory of unpacked Debian packages ($packages) and apt's architecture. To be sourced.
#
# With DEBIAN_ARCHITECTURE=i386 apt works for that architecture, with the host's sources but lists of its own: the host
# need not know of the architecture, and nothing of the host's changes.
packages=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/nested-host/packages
if [[ -n ${DEBIAN_ARCHITECTURE:-} ]]; then
    packages+=/$DEBIAN_ARCHITECTURE
    mkdir -p "$packages"/.apt/{lists,archives}/partial
    : >"$packages/.apt/status"
    cat >"$packages/.apt/.config.$$" <<CONFIG
APT::Architecture "$DEBIAN_ARCHITECTURE";
#clear APT::Architectures;
APT::Architectures { "$DEBIAN_ARCHITECTURE"; };
Dir::State "$packages/.apt";
Dir::State::status "$packages/.apt/status";
Dir::Cache "$packages/.apt";
CONFIG
    mv "$packages/.apt/.config.$$" "$packages/.apt/config"
    export APT_CONFIG=$packages/.apt/config
fi
mkdir -p "$packages"
