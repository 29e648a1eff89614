# Time limits in the outer machine, by the shell that runs the checks there. A second counts as one where the shell gets done
# in it what it does on a quiet host, and less where that or what runs beside it is slow.

# Sets `now` to the hundredths of a second since the machine's start.
look_at_clock() {
    read -r up _ </proc/uptime
    fraction=1${up#*.}
    now=$((${up%.*} * 100 + fraction - 100))
}

# Takes as many hundredths of a second there as `usual` says.
usual=5
do_some_work() {
    step=0
    while [ $step -lt 2000 ]; do step=$((step + 1)); done
}

# Sets SLOWNESS to how many times longer than usual some work takes, rounded up.
measure_slowness() {
    look_at_clock
    began=$now
    do_some_work
    look_at_clock
    took=$((now - began))
    [ $took -gt $usual ] || took=$usual
    SLOWNESS=$(((took + usual - 1) / usual))
}

# Returns after so many seconds.
wait_out() {
    left=$(($1 * 100))
    look_at_clock
    while [ $left -gt 0 ]; do
        before=$now
        sleep 2
        measure_slowness
        left=$((left - (now - before) / SLOWNESS))
    done
}
