#!/bin/sh
# In the guest: prints a message of the kernel, loads the screen's driver when a line is typed, and prints another one. When another
# line is typed, it takes the screen from its driver and gives it back, as often as its argument says.
echo '<1>No driver has been loaded.' >/dev/kmsg
echo early shown
read -r _
insmod /hyperv_drm.ko
while [ ! -e /dev/fb0 ] || [ ! -e /dev/dri/card0 ]; do sleep 0.1; done
echo '<1>The driver has been loaded.' >/dev/kmsg
echo driver shown
read -r _
exec reload hyperv_drm "$1"
