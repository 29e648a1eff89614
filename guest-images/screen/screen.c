/*
 * Drivers for keyboard and mouse. `driver=good` negotiates as Linux does and prints each message of the host, until Escape is
 * released; P repaints a part of the screen, R makes it smaller, S scrolls it by 16 lines, and M gives the pointer a shape. With
 * `large`, the picture is in the memory for a large screen.
 * Otherwise the drivers break the protocol in the ways of a table, and the exit code says whether the host stood it.
 */
#include "screen.h"

#include "session.h"

/* Scan codes. */
enum { KEY_R = 0x13, KEY_P = 0x19, KEY_S = 0x1f, KEY_M = 0x32 };

static struct input keyboard, mouse;

static bool keystroke(bool *escape)
{
    const uint16_t *halves = (const uint16_t *)keyboard.bytes;
    if (!CHECK("a keystroke has the right type and length", keyboard.words[0] == KEYBOARD_EVENT && keyboard.length >= 12 && !halves[3]))
        return false;
    print("key %x flags %x\n", halves[2], keyboard.words[2]);
    bool is_down = !(keyboard.words[2] & 2);
    if (is_down && ((halves[2] == KEY_P && !repaint()) || (halves[2] == KEY_R && !resize()) ||
                    (halves[2] == KEY_S && !scroll()) || (halves[2] == KEY_M && !show_pointer())))
        return FAILED("the screen does not change");
    *escape = halves[2] == 1 && keyboard.words[2] & 2;
    return true;
}

static bool report(void)
{
    const uint8_t *bytes = mouse.bytes + 16;
    if (!CHECK("a report has the right type and length", mouse.words[1] == 15 && mouse.words[2] == MOUSE_REPORT && mouse.words[3] == 7))
        return false;
    print("mouse %u %u buttons %x wheel %d\n", bytes[1] | bytes[2] << 8, bytes[3] | bytes[4] << 8, bytes[0], (int8_t)bytes[5]);
    if (bytes[6])
        print("tilt %d\n", (int8_t)bytes[6]);
    return true;
}

static bool be_good(void)
{
    static const uint16_t lights[] = {KEYBOARD_LEDS, 0, 4};
    if (!draw() || !input_open(&keyboard, KEYBOARD) || !input_begin(&keyboard) || !input_open(&mouse, MOUSE) || !input_begin(&mouse) ||
        !input_send(&keyboard, lights, sizeof lights))
        return FAILED("keyboard and mouse cannot be used");
    print("ready\n");
    for (bool escape = false; !escape;) {
        bool any = false;
        while (!escape && input_take(&keyboard)) {
            any = true;
            if (!keystroke(&escape))
                return false;
        }
        hear_of_viewers();
        while (input_take(&mouse)) {
            any = true;
            if (!report())
                return false;
        }
        if (!any && !escape) {
            interrupts_on();
            delay_microseconds(1000);
            interrupts_off();
        }
    }
    return input_close(&keyboard) && input_close(&mouse);
}

int main(void)
{
    return session_of_drivers(be_good, hostile_tests, hostile_test_count);
}
