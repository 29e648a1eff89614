# shellcheck shell=bash
# Functions of the benchmarks that compare VMMs on the nested host. To be sourced.

# filled NAME=VALUE... -- WORD...: sets the array `command` to the words, with each {NAME} replaced by its VALUE and the
# program found.
filled() {
    local pair word pairs=()
    while [[ $1 != -- ]]; do pairs+=("$1") && shift; done
    shift
    command=()
    for word in "$@"; do
        for pair in "${pairs[@]}"; do word=${word//"{${pair%%=*}}"/${pair#*=}}; done
        command+=("$word")
    done
    word=$(type -P "${command[0]}") || { echo "there is no program ${command[0]} to measure" >&2 && return 1; }
    command[0]=$word
}

# packed PROGRAM: sets the array `packing` to the nested host's options that pack a VMM.
packed() {
    # shellcheck disable=SC2034 # for the caller
    if [[ $1 == *qemu-system-x86_64 ]]; then packing=(--qemu); else packing=(--file "$1"); fi
}

# The common part of QEMU's command line, without devices. {kernel}, {initrd} and {cmdline} are placeholders.
# shellcheck disable=SC2034 # used by the scripts that source this file
qemu=(
    qemu-system-x86_64 -M pc -accel kvm -cpu host -nodefaults -no-user-config -no-reboot
    -display none -serial stdio -kernel '{kernel}' -initrd '{initrd}' -append '{cmdline}'
)

# number OPTION VALUE: exits if VALUE is not a positive number.
number() { [[ $2 =~ ^[1-9][0-9]*$ ]] || { echo "$1 $2 is not a number" >&2 && exit 2; }; }

# program OPTION PATH: exits if PATH is not a program.
program() { [[ -f $2 && -x $2 ]] || { echo "$1 $2 is not a program" >&2 && exit 2; }; }

# table NAME...: reads lines "NAME JOB METRIC VALUE" and prints, for each job and metric as they first appear, the
# median of each NAME's values, the lowest and the highest, and in parentheses the first NAME's median as a multiple.
table() {
    awk -v names="$*" '
        # Sorts the values of a key into `sorted`.
        function sort(key,    i, j, held) {
            for (i = 1; i <= count[key]; i++) {
                held = values[key, i]
                for (j = i; j > 1 && sorted[j - 1] > held; j--) sorted[j] = sorted[j - 1]
                sorted[j] = held
            }
        }
        {
            row = $2 SUBSEP $3
            if (!(row in known)) { known[row]; rows[++row_count] = row }
            values[$1, row, ++count[$1, row]] = $4 + 0
        }
        END {
            columns = split(names, name, " ")
            printf "%-24s %31s", "", name[1]
            for (c = 2; c <= columns; c++) printf "  %39s", name[c]
            for (r = 1; r <= row_count; r++) {
                split(rows[r], part, SUBSEP)
                if (part[1] != job) { job = part[1]; printf "\n%s", job }
                gsub(/_/, " ", part[2])
                printf "\n  %-22s", part[2]
                ours = 0
                for (c = 1; c <= columns; c++) {
                    key = name[c] SUBSEP rows[r]
                    printf "%s", c == 1 ? " " : "  "
                    if (!(key in count)) { printf(c == 1 ? "%31s" : "%39s", "-"); continue }
                    sort(key)
                    median = sorted[int((count[key] + 1) / 2)]
                    printf "%11.2f %19s", median, sprintf("[%.2f %.2f]", sorted[1], sorted[count[key]])
                    if (c == 1) ours = median
                    else if (median > 0) printf " (%5.2f)", ours / median
                    else printf "        "
                }
            }
            print ""
        }
    '
}
