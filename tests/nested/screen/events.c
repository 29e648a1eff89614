/*
 * In the guest: prints each event of each input device as "NAME type code value", without those that only separate others.
 *
 * Between two presses of the key that a US keyboard lacks (KEY_102ND), it only notes the keyboard's events, because printing takes
 * longer than typing. Then it prints "noted ", and for each the code in two hexadecimal digits and +, - or =: the key is pressed,
 * released, or repeated. A ! stands for events that were lost.
 */
#include <fcntl.h>
#include <glob.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICES 8

static char noted[1 << 16];
static size_t length;
static int notes;

/* Returns 1 if the event is not to be printed. */
static int note(const struct input_event *event)
{
    if (event->type == EV_KEY && event->code == KEY_102ND) {
        notes ^= event->value == 1;
        if (event->value == 0 && !notes) {
            printf("noted %s\n", noted);
            length = 0;
        }
        return 1;
    }
    if (notes && length + 4 <= sizeof noted) {
        if (event->type == EV_SYN)
            length += sprintf(noted + length, "!");
        else if (event->type == EV_KEY)
            length += sprintf(noted + length, "%02x%c", event->code, "-+="[event->value]);
    }
    return notes;
}

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
                if ((events[event].type != EV_SYN || events[event].code == SYN_DROPPED) && events[event].type != EV_MSC &&
                    !note(&events[event]))
                    printf("%s %u %u %d\n", names[i], events[event].type, events[event].code, events[event].value);
        }
        fflush(stdout);
    }
}
