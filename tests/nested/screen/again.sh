#!/bin/sh
# In the guest: prints a message of the kernel on the screen, and starts the kernel in /boot when a line is typed. That kernel is told of
# the framebuffer that this one was told of.
while [ ! -e /dev/fb0 ] || [ ! -e /dev/dri/card0 ]; do sleep 0.1; done
echo '<1>The first kernel.' >/dev/kmsg
echo first shown
read -r _
parameters='console=tty0 console=ttyS0 vt.global_cursor_default=0 quiet panic=-1 run=early'
kexec --kexec-file-syscall --load /boot/vmlinuz --initrd=/boot/initrd.img --command-line="$parameters" || exit
kexec --exec
