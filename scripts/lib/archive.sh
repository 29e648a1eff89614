# shellcheck shell=bash
# Functions that put files of this host into an initramfs; to be sourced.
#
# A stage is a directory of symbolic links, laid out as the guest will see it; write_archive follows them, so
# nothing is copied before it goes into the archive.

# absolute PATH: PATH from the root, without resolving links.
absolute() { realpath --no-symlinks --canonicalize-missing -- "$1"; }

# quoted WORD...: the words so that any shell reads them back as they are.
quoted() {
    local word
    for word in "$@"; do printf "'%s' " "${word//\'/\'\\\'\'}"; done
}

# stage_file STAGE FILE [GUEST]: a file, under its own path or GUEST; with the libraries it is linked to.
stage_file() {
    local stage=$1 file target
    file=$(absolute "$2")
    target=$stage$(absolute "${3:-$2}")
    if [[ ! -r $file ]]; then
        echo "cannot read the file $2" >&2
        return 1
    fi
    mkdir -p "${target%/*}"
    ln -sfn "$file" "$target"
    stage_libraries "$stage" "$file"
}

# stage_directory STAGE DIRECTORY [GUEST]: a directory and all that is in it.
stage_directory() {
    local stage=$1 directory target
    directory=$(absolute "$2")
    target=$stage$(absolute "${3:-$2}")
    if [[ ! -d $directory ]]; then
        echo "$2 is not a directory" >&2
        return 1
    fi
    mkdir -p "$target"
    cp --recursive --symbolic-link --force "$directory/." "$target"
}

# stage_libraries STAGE FILE: what a dynamically linked FILE needs, its loader included.
stage_libraries() {
    local stage=$1 file=$2 library listing
    [[ $(head -c 4 "$file" | tr -d '\0') == $'\x7fELF' ]] || return 0
    # A static program, or one for another machine, is none of ldd's business.
    listing=$(ldd "$file" 2>/dev/null) || return 0
    if [[ $listing == *"not found"* ]]; then
        echo "$file lacks libraries on this host:" >&2
        grep "not found" <<<"$listing" >&2
        return 1
    fi
    while read -r library; do
        mkdir -p "$stage${library%/*}"
        ln -sfn "$library" "$stage$library"
    done < <(grep -o '/[^ ]*' <<<"$listing")
    # Libraries outside the default directories are found through the host's cache.
    if [[ -r /etc/ld.so.cache ]]; then
        mkdir -p "$stage/etc"
        ln -sfn /etc/ld.so.cache "$stage/etc/ld.so.cache"
    fi
}

# stage_modules STAGE KERNEL NAME...: kernel modules and what they depend on, named in loading order in
# /lib/modules.load. Those that STAGE/lib/modules.loaded names are left out, as are those built in.
stage_modules() {
    local stage=$1 kernel=$2 release name path dependencies line
    shift 2
    release=$(<"$kernel/release")
    mkdir -p "$stage/lib/modules"
    for name in "$@"; do
        name=${name%.ko}
        # Module names say - and _ as they like.
        line=$(grep -E "/${name//[-_]/[-_]}\.ko:" "$kernel/lib/modules/$release/modules.dep") || {
            grep -qE "/${name//[-_]/[-_]}\.ko$" "$kernel/lib/modules/$release/modules.builtin" && continue
            echo "the kernel $release has no module $name" >&2
            return 1
        }
        # modules.dep names the nearest dependency first; load from the far end.
        dependencies=
        for path in ${line/:/ }; do dependencies="$path $dependencies"; done
        for path in $dependencies; do
            name=${path##*/}
            grep -qsx "$name" "$stage/lib/modules.load" "$stage/lib/modules.loaded" && continue
            echo "$name" >>"$stage/lib/modules.load"
            ln -sfn "$kernel/lib/modules/$release/$path" "$stage/lib/modules/$name"
        done
    done
}

# write_archive STAGE: the stage as a cpio archive that the kernel unpacks.
write_archive() { (cd "$1" && find . -mindepth 1 -print0 | cpio --null --create --format=newc --dereference --quiet); }
