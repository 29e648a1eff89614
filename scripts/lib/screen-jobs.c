/*
 * In the guest of scripts/bench-screen: draws, in sections that it marks on its console. After each mark it reads a line.
 *
 * - marks: nothing, in no time, to know what the marks cost;
 * - alone: nothing, and nobody looks;
 * - idle: nothing;
 * - latency: now and then a square, by a DRM mode of its own. It writes a # to the serial port when the pixels are in memory;
 * - window: a window that moves, 30 times a second;
 * - scroll: text on the kernel's console that fills the screen, 30 lines a second.
 */
#include <fcntl.h>
#include <linux/kd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 1024, HEIGHT = 768, SERIAL = 0x3f8, SQUARE = 64, WINDOW_WIDTH = 400, WINDOW_HEIGHT = 300 };

/* Of Linux's interface to programs, as far as it is used here (drm_mode.h). */
struct card { uint64_t fbs, crtcs, connectors, encoders; uint32_t fb_count, crtc_count, connector_count, encoder_count, limits[4]; };
struct mode { uint32_t clock; uint16_t width, horizontal[4], height, vertical[4]; uint32_t refresh, flags, type; char name[32]; };
struct connector {
    uint64_t encoders, modes, properties, values;
    uint32_t mode_count, property_count, encoder_count, encoder, id, kind, kind_id, connection, millimetres[2], subpixel, pad;
};
struct buffer { uint32_t height, width, bits, flags, handle, pitch; uint64_t size; };
struct map { uint32_t handle, pad; uint64_t offset; };
struct fb { uint32_t id, width, height, pitch, bits, depth, handle; };
struct crtc { uint64_t connectors; uint32_t count, id, fb, x, y, gamma, valid; struct mode mode; };
struct clip { uint16_t left, top, right, bottom; };
struct dirty { uint32_t fb, flags, colour, count; uint64_t clips; };
#define DRM(number, type) _IOWR('d', number, type)

static int card;
static struct fb fb;
static uint32_t *pixels;

static void need(int is_so, const char *what)
{
    if (is_so)
        return;
    perror(what);
    exit(1);
}

static void wait_for_line(void)
{
    char byte;
    while (read(0, &byte, 1) == 1 && byte != '\n')
        ;
}

static void begin(const char *name)
{
    printf("measure begin %s\n", name);
    wait_for_line();
}

static void end(const char *name)
{
    printf("measure end %s\n", name);
    wait_for_line();
}

/* Sleeps until the next frame of a series. */
static void pace(struct timespec *next, long milliseconds)
{
    next->tv_nsec += milliseconds * 1000000;
    next->tv_sec += next->tv_nsec / 1000000000;
    next->tv_nsec %= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

static struct timespec now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time;
}

static void set_mode(void)
{
    uint32_t crtcs[8], connectors[8];
    struct mode modes[64] = {0};
    struct card resources = {
        .crtcs = (uintptr_t)crtcs, .connectors = (uintptr_t)connectors, .crtc_count = 8, .connector_count = 8};
    card = open("/dev/dri/card0", O_RDWR);
    need(card >= 0 && !ioctl(card, DRM(0xa0, struct card), &resources) && resources.connector_count, "the card");
    struct connector connector = {.id = connectors[0]}, filled = {.id = connectors[0], .modes = (uintptr_t)modes};
    need(!ioctl(card, DRM(0xa7, struct connector), &connector), "the connector");
    filled.mode_count = connector.mode_count < 64 ? connector.mode_count : 64;
    need(!ioctl(card, DRM(0xa7, struct connector), &filled), "its modes");
    unsigned at = 0;
    while (at < filled.mode_count && (modes[at].width != WIDTH || modes[at].height != HEIGHT))
        at++;
    need(at < filled.mode_count, "the mode");
    struct buffer buffer = {.width = WIDTH, .height = HEIGHT, .bits = 32};
    need(!ioctl(card, DRM(0xb2, struct buffer), &buffer) && buffer.pitch == 4 * WIDTH, "a buffer");
    struct map map = {.handle = buffer.handle};
    fb = (struct fb){0, WIDTH, HEIGHT, buffer.pitch, 32, 24, buffer.handle};
    need(!ioctl(card, DRM(0xb3, struct map), &map) && !ioctl(card, DRM(0xae, struct fb), &fb), "a frame buffer");
    pixels = mmap(NULL, buffer.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, map.offset);
    need(pixels != MAP_FAILED, "its memory");
    struct crtc crtc = {.connectors = (uintptr_t)&filled.id, 1, crtcs[0], fb.id, .valid = 1, .mode = modes[at]};
    need(!ioctl(card, DRM(0xa2, struct crtc), &crtc), "setting the mode");
}

static void show(struct clip clip)
{
    struct dirty dirty = {.fb = fb.id, .count = 1, .clips = (uintptr_t)&clip};
    /* Drivers whose buffers are the screen's memory need no call. */
    ioctl(card, DRM(0xb1, struct dirty), &dirty);
}

static void fill(unsigned left, unsigned top, unsigned width, unsigned height, uint32_t (*colour)(unsigned, unsigned))
{
    for (unsigned y = 0; y < height; y++)
        for (unsigned x = 0; x < width; x++)
            pixels[(top + y) * WIDTH + left + x] = colour(x, y);
}

static uint32_t square_colour;
static uint32_t plain(unsigned x, unsigned y) { return (void)x, (void)y, square_colour; }
static uint32_t ground(unsigned x, unsigned y) { return (y / 4 * 0x10101 & 0x7f7f7f) ^ (x / 128 * 0x201008); }
/* A title, a border, and lines that look like text. */
static uint32_t window(unsigned x, unsigned y)
{
    if (y < 24)
        return 0x3060a0;
    if (x < 2 || x >= WINDOW_WIDTH - 2 || y >= WINDOW_HEIGHT - 2)
        return 0x204060;
    return y % 16 < 10 && (x * 2654435761u >> 16 ^ y / 16 * 40503u) % 5 < 2 ? 0x202020 : 0xf0f0f0;
}

static void latency(void)
{
    int ports = open("/dev/port", O_WRONLY);
    need(ports >= 0, "ports");
    begin("latency");
    for (unsigned at = 0; at < 40; at++) {
        /* Not in step with anything that comes every so many milliseconds. */
        usleep(200000 + at * 7919 % 100000);
        square_colour = 0xff8000 * (at % 2) | at;
        fill(512, 384, SQUARE, SQUARE, plain);
        need(pwrite(ports, "#", 1, SERIAL) == 1, "the serial port");
        show((struct clip){512, 384, 512 + SQUARE, 384 + SQUARE});
    }
    usleep(300000);
    end("latency");
}

static void move_window(void)
{
    begin("window");
    struct timespec next = now();
    unsigned left = 0, top = 0;
    for (unsigned frame = 0; frame < 300; frame++) {
        unsigned old_left = left, old_top = top;
        fill(old_left, old_top, WINDOW_WIDTH, WINDOW_HEIGHT, ground);
        left = frame * 4 % (2 * (WIDTH - WINDOW_WIDTH));
        left = left < WIDTH - WINDOW_WIDTH ? left : 2 * (WIDTH - WINDOW_WIDTH) - left;
        top = frame * 2 % (HEIGHT - WINDOW_HEIGHT);
        fill(left, top, WINDOW_WIDTH, WINDOW_HEIGHT, window);
        unsigned from_left = left < old_left ? left : old_left, from_top = top < old_top ? top : old_top;
        unsigned to_left = left > old_left ? left : old_left, to_top = top > old_top ? top : old_top;
        show((struct clip){from_left, from_top, to_left + WINDOW_WIDTH, to_top + WINDOW_HEIGHT});
        pace(&next, 33);
    }
    end("window");
}

static void scroll(int console)
{
    begin("scroll");
    struct timespec next = now();
    for (unsigned line = 0; line < 300; line++) {
        char text[WIDTH / 8 + 2];
        for (unsigned at = 0; at < WIDTH / 8; at++)
            text[at] = at % 7 == 6 ? ' ' : (char)('!' + (line * 31 + at * 17 + at * line) % 94);
        memcpy(text + WIDTH / 8 - 1, "\r\n", 2);
        need(write(console, text, WIDTH / 8 + 1) > 0, "the console");
        pace(&next, 33);
    }
    end("scroll");
}

int main(void)
{
    int console = open("/dev/tty1", O_RDWR);
    setvbuf(stdout, NULL, _IONBF, 0);
    while (access("/dev/fb0", F_OK) || access("/dev/dri/card0", F_OK))
        usleep(100000);
    need(console >= 0 && dprintf(console, "\033[?25l\033[2J") > 0 && !ioctl(console, KDSETMODE, KD_GRAPHICS), "the console");
    set_mode();
    sleep(3);
    begin("marks");
    end("marks");
    begin("alone");
    sleep(10);
    end("alone");
    printf("connect\n");
    wait_for_line();
    sleep(9);
    begin("idle");
    sleep(10);
    end("idle");
    latency();
    fill(0, 0, WIDTH, HEIGHT, ground);
    show((struct clip){0, 0, WIDTH, HEIGHT});
    sleep(1);
    move_window();
    close(card);
    need(!ioctl(console, KDSETMODE, KD_TEXT), "the console");
    sleep(1);
    scroll(console);
    return 0;
}
