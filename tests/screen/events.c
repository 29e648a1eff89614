/*
 * In the guest: prints each event of each input device as "NAME type code value", without those that only separate others.
 */
#include <fcntl.h>
#include <glob.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICES 8

int main(void)
{
    struct pollfd open_files[DEVICES];
    char names[DEVICES][64] = {{0}};
    unsigned count = 0;
    /* Until keyboard and mouse are there. */
    for (;; usleep(100000)) {
        glob_t found = {0};
        int keyboard = 0, mouse = 0;
        for (; count; count--)
            close(open_files[count - 1].fd);
        glob("/dev/input/event*", 0, NULL, &found);
        for (size_t i = 0; i < found.gl_pathc && count < DEVICES; i++) {
            int file = open(found.gl_pathv[i], O_RDONLY);
            unsigned long bits = 0;
            if (file < 0)
                continue;
            ioctl(file, EVIOCGBIT(0, sizeof bits), &bits);
            if (bits >> EV_ABS & 1)
                mouse = 1, snprintf(names[count], sizeof names[count], "mouse");
            else if (bits >> EV_REP & 1)
                keyboard = 1, snprintf(names[count], sizeof names[count], "keyboard");
            else
                snprintf(names[count], sizeof names[count], "other");
            open_files[count++] = (struct pollfd){.fd = file, .events = POLLIN};
        }
        globfree(&found);
        if (keyboard && mouse)
            break;
    }
    printf("watching\n");
    fflush(stdout);
    for (;;) {
        poll(open_files, count, -1);
        for (unsigned i = 0; i < count; i++) {
            struct input_event events[64];
            ssize_t length = open_files[i].revents & POLLIN ? read(open_files[i].fd, events, sizeof events) : 0;
            for (size_t event = 0; length > 0 && event < length / sizeof *events; event++)
                if ((events[event].type != EV_SYN || events[event].code == SYN_DROPPED) && events[event].type != EV_MSC)
                    printf("%s %u %u %d\n", names[i], events[event].type, events[event].code, events[event].value);
        }
        fflush(stdout);
    }
}
