#!/bin/sh
# In the guest: reload DRIVER ROUNDS: takes the screen from its driver and gives it back so many times, and prints a message of the
# kernel each time.
driver=$1
loaded() { grep -q "$driver" /proc/fb; }
until loaded; do sleep 0.1; done
cd "/sys/bus/vmbus/drivers/$driver" || exit
device=$(echo *-*-*)
for round in $(seq "$2"); do
    echo "$device" >unbind
    while loaded; do sleep 0.1; done
    echo "$device" >bind
    until loaded; do sleep 0.1; done
    echo "<1>The driver was loaded again, $round." >/dev/kmsg
done
echo again shown
read -r _
