/*
 * A screen: colour bars over the whole of it, and a few words.
 */
#include "vsc.h"

#include "interfaces.h"
#include "synthvid.h"

#define PIXEL 4U
#define GLYPH_WIDTH 5U
#define GLYPH_HEIGHT 7U
/* Distance of two characters, in pixels of a character. */
#define ADVANCE (GLYPH_WIDTH + 1)

/* The picture, and the address of its first pixel. */
struct canvas {
    uint64_t first;
    uint32_t width, height, pitch;
};

/* A character: lines of five pixels, the first in bit 4. */
struct glyph {
    char character;
    uint8_t lines[GLYPH_HEIGHT];
};

/* Returns the shape of a character. Others than those that are drawn here are blanks. */
static const struct glyph *glyph_of(char character)
{
    static const struct glyph glyphs[] = {
        {' ', {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00}}, {'+', {0x00, 0x04, 0x04, 0x1f, 0x04, 0x04, 0x00}},
        {',', {0x00, 0x00, 0x00, 0x00, 0x0c, 0x04, 0x08}}, {'-', {0x00, 0x00, 0x00, 0x1f, 0x00, 0x00, 0x00}},
        {'.', {0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x0c}}, {'/', {0x00, 0x01, 0x02, 0x04, 0x08, 0x10, 0x00}},
        {'0', {0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e}}, {'1', {0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e}},
        {'2', {0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f}}, {'3', {0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e}},
        {'4', {0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02}}, {'5', {0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e}},
        {'6', {0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e}}, {'7', {0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08}},
        {'8', {0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e}}, {'9', {0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c}},
        {':', {0x00, 0x0c, 0x0c, 0x00, 0x0c, 0x0c, 0x00}}, {'V', {0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04}},
        {'M', {0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11}}, {'B', {0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e}},
        {'a', {0x00, 0x00, 0x0e, 0x01, 0x0f, 0x11, 0x0f}}, {'c', {0x00, 0x00, 0x0e, 0x10, 0x10, 0x11, 0x0e}},
        {'d', {0x01, 0x01, 0x0d, 0x13, 0x11, 0x11, 0x0f}}, {'e', {0x00, 0x00, 0x0e, 0x11, 0x1f, 0x10, 0x0e}},
        {'h', {0x10, 0x10, 0x16, 0x19, 0x11, 0x11, 0x11}}, {'i', {0x04, 0x00, 0x0c, 0x04, 0x04, 0x04, 0x0e}},
        {'n', {0x00, 0x00, 0x16, 0x19, 0x11, 0x11, 0x11}}, {'o', {0x00, 0x00, 0x0e, 0x11, 0x11, 0x11, 0x0e}},
        {'r', {0x00, 0x00, 0x16, 0x19, 0x10, 0x10, 0x10}}, {'s', {0x00, 0x00, 0x0e, 0x10, 0x0e, 0x01, 0x1e}},
        {'t', {0x08, 0x08, 0x1c, 0x08, 0x08, 0x09, 0x06}}, {'u', {0x00, 0x00, 0x11, 0x11, 0x11, 0x13, 0x0d}},
        {'v', {0x00, 0x00, 0x11, 0x11, 0x11, 0x0a, 0x04}}, {'x', {0x00, 0x00, 0x11, 0x0a, 0x04, 0x0a, 0x11}},
        {'y', {0x00, 0x00, 0x11, 0x11, 0x0f, 0x01, 0x0e}},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(glyphs); i++)
        if (glyphs[i].character == character)
            return &glyphs[i];
    return &glyphs[0];
}

static uint32_t *line_of(const struct canvas *canvas, uint32_t y)
{
    return (uint32_t *)(canvas->first + (uint64_t)y * canvas->pitch);
}

/* Copies eight bytes at a time: on an emulating host, each step of a loop takes its time. */
static void copy(void *to, const void *from, uint64_t length)
{
    uint64_t words = length / 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}

static void fill(const struct canvas *canvas, uint32_t left, uint32_t top, uint32_t width, uint32_t height, uint32_t colour)
{
    for (uint32_t y = top; y < top + height; y++) {
        uint32_t *to = line_of(canvas, y) + left;
        uint64_t count = width;
        asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(colour) : "memory");
    }
}

static void draw_bars(const struct canvas *canvas)
{
    static const uint32_t colours[] = {0xffffff, 0xffff00, 0x00ffff, 0x00ff00, 0xff00ff, 0xff0000, 0x0000ff, 0x000000};
    const uint32_t bars = ARRAY_LENGTH(colours);
    for (uint32_t bar = 0; bar < bars; bar++) {
        uint32_t left = bar * canvas->width / bars, right = (bar + 1) * canvas->width / bars;
        fill(canvas, left, 0, right - left, 1, colours[bar]);
    }
    for (uint32_t y = 1; y < canvas->height; y++)
        copy(line_of(canvas, y), line_of(canvas, 0), canvas->pitch);
}

static void draw_glyph(const struct canvas *canvas, const struct glyph *glyph, uint32_t left, uint32_t top, uint32_t scale)
{
    for (uint32_t y = 0; y < GLYPH_HEIGHT; y++)
        for (uint32_t x = 0; x < GLYPH_WIDTH; x++)
            if (glyph->lines[y] >> (GLYPH_WIDTH - 1 - x) & 1)
                fill(canvas, left + x * scale, top + y * scale, scale, scale, 0xffffff);
}

/* Draws a text in the middle between left and right, white on black, from line `top` on. One that is too long is left out. */
static void draw_text(const struct canvas *canvas, const char *text, uint32_t top, uint32_t scale)
{
    uint32_t length = text_length(text), width = (length * ADVANCE + 1) * scale, height = (GLYPH_HEIGHT + 2) * scale;
    if (width > canvas->width || top + height > canvas->height)
        return;
    uint32_t left = (canvas->width - width) / 2;
    fill(canvas, left, top, width, height, 0);
    for (uint32_t at = 0; at < length; at++)
        draw_glyph(canvas, glyph_of(text[at]), left + (at * ADVANCE + 1) * scale, top + scale, scale);
}

/* Appends what fits, as a text with its end. */
static char described[64];
static unsigned described_length;

static void describe(const char *text, size_t length)
{
    for (size_t i = 0; i < length && described_length + 1 < sizeof described; i++)
        described[described_length++] = text[i];
}

static void __attribute__((format(printf, 1, 2))) set_description(const char *format, ...)
{
    va_list arguments;
    memset(described, 0, sizeof described);
    described_length = 0;
    va_start(arguments, format);
    text_format(describe, format, arguments);
    va_end(arguments);
}

static void draw(const struct synthvid *video, const struct canvas *canvas)
{
    uint32_t scale = canvas->height / 120 ? canvas->height / 120 : 1;
    draw_bars(canvas);
    set_description("%ux%u, video %u.%u on VMBus %u.%u", canvas->width, canvas->height, video->version & 0xffff, video->version >> 16,
                    vmbus_version() >> 16, vmbus_version() & 0xffff);
    draw_text(canvas, "Viridian", canvas->height / 2 - 9 * scale, 2 * scale);
    draw_text(canvas, described, canvas->height / 2 + 9 * scale, scale / 2 ? scale / 2 : 1);
}

static bool show(struct synthvid *video)
{
    if (!synthvid_negotiate(video))
        return false;
    struct synthvid_size size = video->sizes[video->size_default];
    print("    protocol     %u.%u, %u sizes, at first %ux%u\n", video->version & 0xffff, video->version >> 16, video->size_count, size.width,
          size.height);
    uint32_t pitch = (size.width * PIXEL + 7) / 8 * 8;
    struct canvas canvas = {synthvid_memory((uint64_t)pitch * size.height), size.width, size.height, pitch};
    struct synthvid_situation situation = {1, 1, 1, 0, 8 * PIXEL, canvas.width, canvas.height, canvas.pitch};
    if (!canvas.first || !synthvid_locate(video, canvas.first))
        return false;
    draw(video, &canvas);
    if (!synthvid_show(video, &situation) || !synthvid_report(video, 0, 0, canvas.width, canvas.height))
        return false;
    print("    picture      %ux%u, colour bars\n", canvas.width, canvas.height);
    return channel_await_reading(&video->channel);
}

bool use_video(const struct offer *offer)
{
    static uint8_t rings[2 * SYNTHVID_RING_PAGES * PAGE_SIZE] NOT_CLEARED __attribute__((aligned(PAGE_SIZE)));
    static struct synthvid video;
    if (!synthvid_open(&video, offer, rings))
        return FAILED("channel %u cannot be opened", offer->channel);
    print("  video          channel %u is open\n", offer->channel);
    if (!show(&video))
        return FAILED("the screen shows no picture");
    return synthvid_close(&video) || FAILED("channel %u cannot be closed", offer->channel);
}
