/*
 * In the guest: shows a text on the console, then pictures through /dev/fb0 and in DRM modes, each until a line is typed.
 */
#include <fcntl.h>
#include <linux/fb.h>
#include <linux/kd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of Linux's interface to programs, as far as it is used here (drm_mode.h). */
struct card { uint64_t fbs, crtcs, connectors, encoders; uint32_t fb_count, crtc_count, connector_count, encoder_count, limits[4]; };
struct mode { uint32_t clock; uint16_t width, horizontal[4], height, vertical[4]; uint32_t refresh, flags, type; char name[32]; };
struct connector {
    uint64_t encoders, modes, properties, values;
    uint32_t mode_count, property_count, encoder_count, encoder, id, kind, kind_id, connection, millimetres[2], subpixel, pad;
};
struct crtc { uint64_t connectors; uint32_t connector_count, id, fb, x, y, gamma, valid; struct mode mode; };
struct buffer { uint32_t height, width, bits, flags, handle, pitch; uint64_t size; };
struct map { uint32_t handle, pad; uint64_t offset; };
struct fb { uint32_t id, width, height, pitch, bits, depth, handle; };
#define DRM(number, type) _IOWR('d', number, type)

static void need(int is_true, const char *what)
{
    if (is_true)
        return;
    printf("failed: %s: %m\n", what);
    fflush(stdout);
    exit(1);
}

static void until_seen(void)
{
    char line[16];
    fflush(stdout);
    need(fgets(line, sizeof line, stdin) != NULL, "a line");
}

/* The test has the same function. */
static void paint(uint8_t *first, uint32_t width, uint32_t height, uint32_t pitch)
{
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            ((uint32_t *)(first + y * pitch))[x] = (x * 7 & 0xff) << 16 | (y * 5 & 0xff) << 8 | ((x ^ y ^ width) & 0xff);
}

static void show_text(int console)
{
    static const char text[] = "Viridian 123";
    static uint8_t glyphs[512 * 32 * 4];
    struct console_font_op font = {.op = KD_FONT_OP_GET, .width = 32, .height = 32, .charcount = 512, .data = glyphs};
    /* Without its cursor, which would blink. */
    need(dprintf(console, "\033[?25l\033[H\033[2J%s", text) > 0, "the console");
    need(ioctl(console, KDFONTOP, &font) == 0, "the font");
    printf("text ");
    /* On large screens, Linux takes a larger font. */
    for (const char *letter = text; *letter && font.width == 8 && font.height == 16; letter++)
        for (unsigned row = 0; row < 16; row++)
            printf("%02x", glyphs[*letter * 32 + row]);
    printf(" shown\n");
    until_seen();
}

static void show_characters(int console)
{
    char ascii[0x7f - '!' + 1] = {0};
    for (char letter = '!'; letter < 0x7f; letter++)
        ascii[letter - '!'] = letter;
    need(dprintf(console, "\033[H\033[2J%s\n\r\033[31;44mred on blue\033[0m\n\r\033[7mblack on white\033[0m\n\rwith a cursor\033[?25h\b",
                 ascii) > 0,
         "the characters");
    printf("characters shown\n");
    until_seen();
    need(dprintf(console, "\033[?25l") > 0, "the console");
}

static void paint_fb(void)
{
    struct fb_var_screeninfo screen;
    struct fb_fix_screeninfo fixed;
    int file = open("/dev/fb0", O_RDWR);
    need(file >= 0 && !ioctl(file, FBIOGET_VSCREENINFO, &screen) && !ioctl(file, FBIOGET_FSCREENINFO, &fixed), "fb0");
    uint8_t *pixels = mmap(NULL, screen.yres * fixed.line_length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    need(pixels != MAP_FAILED && screen.bits_per_pixel == 32, "its memory");
    paint(pixels, screen.xres, screen.yres, fixed.line_length);
    printf("fb0 %ux%u shown\n", screen.xres, screen.yres);
    until_seen();
}

static void paint_mode(int file, uint32_t crtc_id, const struct connector *connector, const struct mode *mode)
{
    struct buffer buffer = {.width = mode->width, .height = mode->height, .bits = 32};
    need(!ioctl(file, DRM(0xb2, struct buffer), &buffer), "a buffer");
    struct map map = {.handle = buffer.handle};
    struct fb fb = {0, mode->width, mode->height, buffer.pitch, 32, 24, buffer.handle};
    need(!ioctl(file, DRM(0xb3, struct map), &map) && !ioctl(file, DRM(0xae, struct fb), &fb), "a frame buffer");
    uint8_t *pixels = mmap(NULL, buffer.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, map.offset);
    need(pixels != MAP_FAILED, "its memory");
    paint(pixels, mode->width, mode->height, buffer.pitch);
    struct crtc crtc = {.connectors = (uintptr_t)&connector->id, 1, crtc_id, fb.id, .valid = 1, .mode = *mode};
    need(!ioctl(file, DRM(0xa2, struct crtc), &crtc), "the mode");
    printf("drm %ux%u shown\n", mode->width, mode->height);
    until_seen();
}

static void paint_modes(int count, char **sizes)
{
    uint32_t crtcs[8], connectors[8];
    struct mode modes[64] = {0};
    struct card card = {.crtcs = (uintptr_t)crtcs, .connectors = (uintptr_t)connectors, .crtc_count = 8, .connector_count = 8};
    int file = open("/dev/dri/card0", O_RDWR);
    need(file >= 0 && !ioctl(file, DRM(0xa0, struct card), &card) && card.connector_count == 1, "the card");
    struct connector connector = {.id = connectors[0]}, filled = {.id = connectors[0], .modes = (uintptr_t)modes};
    need(!ioctl(file, DRM(0xa7, struct connector), &connector), "the connector");
    filled.mode_count = connector.mode_count < 64 ? connector.mode_count : 64;
    need(!ioctl(file, DRM(0xa7, struct connector), &filled), "its modes");
    for (int wanted = 0; wanted < count; wanted++) {
        unsigned at = 0;
        while (at < filled.mode_count && strcmp(modes[at].name, sizes[wanted]))
            at++;
        need(at < 64 && at < filled.mode_count, sizes[wanted]);
        paint_mode(file, crtcs[0], &filled, &modes[at]);
    }
}

int main(int count, char **arguments)
{
    int console = open("/dev/tty1", O_RDWR);
    while (access("/dev/fb0", F_OK))
        usleep(100000);
    need(console >= 0, "the console");
    show_text(console);
    show_characters(console);
    need(!ioctl(console, KDSETMODE, KD_GRAPHICS), "a console that does not draw");
    paint_fb();
    paint_modes(count - 1, arguments + 1);
    return 0;
}
