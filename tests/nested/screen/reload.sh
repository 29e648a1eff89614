#!/bin/sh
# In the guest: takes the screen from its older driver and gives it back, as often as its argument says, and prints a message of the
# kernel each time.
loaded() {
    until grep -q hyperv_fb /proc/fb; do sleep 0.1; done
}
loaded
cd /sys/bus/vmbus/drivers/hyperv_fb || exit
device=$(echo *-*-*)
for round in $(seq "$1"); do
    echo "$device" >unbind
    while grep -q hyperv_fb /proc/fb; do sleep 0.1; done
    echo "$device" >bind
    loaded
    echo "<1>The driver was loaded again, $round." >/dev/kmsg
done
echo again shown
read -r _
