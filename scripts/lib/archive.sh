# shellcheck shell=bash
# Functions that put files of this host into an initramfs or a root disk. To be sourced, with $library set.
#
# A stage is a directory of symbolic links, laid out as the guest will see it; write_archive follows them, so
# nothing is copied before it goes into the archive.

# absolute PATH: prints PATH as an absolute path, without resolving links.
absolute() { realpath --no-symlinks --canonicalize-missing -- "$1"; }

# quoted WORD...: prints the words quoted for a shell.
quoted() {
    local word
    for word in "$@"; do printf "'%s' " "${word//\'/\'\\\'\'}"; done
}

# stage_file STAGE FILE [GUEST]: adds a file at its own path or at GUEST, with the libraries that it is linked to.
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

# stage_directory STAGE DIRECTORY [GUEST]: adds a directory with its content.
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

# stage_libraries STAGE FILE: adds the libraries and the loader of a dynamically linked FILE.
stage_libraries() {
    local stage=$1 file=$2 library listing
    [[ $(head -c 4 "$file" | tr -d '\0') == $'\x7fELF' ]] || return 0
    # ldd fails for a static program, or one for another machine, which needs no libraries of this host.
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

# stage_package STAGE NAME: adds the programs of a Debian package, with their libraries. Existing files are kept, so that
# the parts of this host's C library stay consistent.
stage_package() {
    local stage=$1 files guest host
    files=$("$library/debian-files" "$2") || return 1
    while IFS=$'\t' read -r guest host; do
        [[ ! -e $stage$guest ]] || continue
        [[ -d $stage${guest%/*} ]] || mkdir -p "$stage${guest%/*}"
        ln -s "$host" "$stage$guest"
    done <<<"$files"
}

# stage_modules STAGE KERNEL NAME...: adds kernel modules and their dependencies, so that modprobe finds them by name and by
# the aliases of devices. Modules that are built into the kernel are skipped. ?NAME may be missing.
stage_modules() {
    local stage=$1 kernel=$2 release target paths
    shift 2
    release=$(<"$kernel/release")
    target=$stage/lib/modules/$release
    mkdir -p "$target"
    paths=$(printf '%s\n' "$@" | awk -v release="$release" -v target="$target" '
        # In module names, - and _ are equivalent.
        function name(path) { sub(/.*\//, "", path); sub(/\.ko:?$/, "", path); gsub(/-/, "_", path); return path }
        function base(path) { sub(/.*\//, "", path); return path }
        FILENAME == "-" { if ($1 != "") wanted[++count] = $1; next }
        FILENAME ~ /modules\.builtin$/ { builtin[name($1)] = 1; next }
        FILENAME ~ /modules\.dep$/ { line[name($1)] = $0; next }
        FILENAME ~ /modules\.alias$/ { aliases[++alias_count] = $0; target_of[alias_count] = name($3); next }
        END {
            for (i = 1; i <= count; i++) {
                optional = sub(/^\?/, "", wanted[i])
                if (name(wanted[i]) in builtin) continue
                if (!(name(wanted[i]) in line)) {
                    if (optional) continue
                    print "the kernel " release " has no module " wanted[i] >"/dev/stderr"
                    exit 1
                }
                parts = split(line[name(wanted[i])], part, /:? +/)
                for (p = 1; p <= parts; p++) {
                    sub(/:$/, "", part[p])
                    if (part[p] != "") chosen[name(part[p])] = part[p]
                }
            }
            for (module in chosen) {
                print chosen[module]
                parts = split(line[module], part, /:? +/)
                sub(/:$/, "", part[1])
                dependencies = base(part[1]) ":"
                for (p = 2; p <= parts; p++) if (part[p] != "") dependencies = dependencies " " base(part[p])
                print dependencies >>(target "/modules.dep")
            }
            for (i = 1; i <= alias_count; i++) if (target_of[i] in chosen) print aliases[i] >>(target "/modules.alias")
        }
    ' - "$kernel/lib/modules/$release"/modules.{builtin,dep,alias}) || return 1
    ln -sf "$kernel/lib/modules/$release/modules.builtin" "$target"
    [[ -z $paths ]] || (cd "$kernel/lib/modules/$release" && xargs realpath <<<"$paths" | xargs ln -sf -t "$target")
}

# load_at_start STAGE MODULE...: sets the modules that the first process loads, in this order, with their parameters.
load_at_start() {
    (($# > 1)) || return 0
    mkdir -p "$1/lib"
    printf '%s\n' "${@:2}" >>"$1/lib/modules.load"
}

# write_archive STAGE: prints the stage as a cpio archive for the kernel.
write_archive() { (cd "$1" && find . -mindepth 1 -print0 | cpio --null --create --format=newc --dereference --quiet); }
