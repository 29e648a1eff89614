/*
 * SynIC: interrupts of all SINTs on all VPs, messages, event flags, and parts that are disabled or moved.
 *
 * Needs the test device (`--test-device`), by which a guest raises SINTs, and sends messages and events to itself.
 */
#include "tests.h"

struct sint_value {
    unsigned sint;
    uint64_t value;
};

static void sint_set_here(void *argument)
{
    const struct sint_value *wanted = argument;
    sint_set(wanted->sint, wanted->value);
}

void sint_set_on(unsigned vp, unsigned sint, uint64_t value)
{
    struct sint_value wanted = {sint, value};
    smp_call(vp, sint_set_here, &wanted, PATIENCE_MILLISECONDS);
}

struct taking {
    unsigned sint;
    struct message *message;
    bool taken;
};

static void take_here(void *argument)
{
    struct taking *taking = argument;
    taking->taken = message_take(taking->sint, taking->message);
}

bool take_on(unsigned vp, unsigned sint, struct message *message)
{
    struct taking taking = {sint, message, false};
    smp_call(vp, take_here, &taking, PATIENCE_MILLISECONDS);
    return taking.taken;
}

bool await_on(unsigned vp, unsigned sint, struct message *message)
{
    const volatile struct message *slot = &synics[vp].messages[sint];
    interrupts_on();
    bool came = WAIT_UNTIL(atomic_load(&slot->type) != MESSAGE_NONE, PATIENCE_MILLISECONDS);
    interrupts_off();
    return came && take_on(vp, sint, message);
}

uint64_t post(unsigned connection, uint64_t payload)
{
    struct {
        uint32_t connection, padding, type, size;
        uint64_t payload;
    } *input;
    static void *pages[CPUS_MAX];
    void **page = &pages[this_cpu()->index];
    if (!*page)
        *page = pages_allocate_zeroed(1);
    input = *page;
    input->connection = connection;
    input->type = MESSAGE_TYPE;
    input->size = sizeof payload;
    input->payload = payload;
    return RESULT_STATUS(hypercall(CALL_POST_MESSAGE, (uint64_t)input, 0));
}

uint64_t signal(unsigned connection)
{
    return RESULT_STATUS(hypercall(CALL_SIGNAL_EVENT | CALL_FAST, connection, 0));
}

static void enable_here(void *unused)
{
    (void)unused;
    synic_enable();
    for (unsigned sint = 0; sint < HV_SINTS; sint++)
        sint_set(sint, VECTOR_OF(sint));
}

static void disable_here(void *unused)
{
    (void)unused;
    synic_disable();
}

int main(void)
{
    static const struct test tests[] = {
        {"sint-interrupts", sint_interrupts},
        {"masked", masked},
        {"auto-eoi", auto_eoi},
        {"polling", polling},
        {"message-content", message_content},
        {"message-order", message_order},
        {"message-end", message_end},
        {"synic-off", synic_off},
        {"moved-pages", moved_pages},
        {"event-flags", event_flags},
        {"connections", connections},
        {"all-at-once", all_at_once},
    };
    smp_start_all();
    if (!hyperv_has(HV_ACCESS_SYNIC) || !hyperv_has(HV_POST_MESSAGES) || !hyperv_has(HV_SIGNAL_EVENTS)) {
        CHECK("this image needs a machine with SynIC, messages and events", false);
        return EXIT_FAILED;
    }
    if (!CHECK("the hypercall page can be enabled", hypercall_enable()))
        return EXIT_FAILED;
    on_each_vp(enable_here, NULL);
    for (unsigned sint = 0; sint < HV_SINTS; sint++) {
        count_interrupts(VECTOR_OF(sint));
        for (unsigned vp = 0; vp < vps(); vp++)
            test_device(TEST_SINT_CREATE, vp, sint, 0);
    }
    int code = RUN_CHECKS(tests);
    on_each_vp(disable_here, NULL);
    return code;
}
