/*
 * Raises SINTs without messages or events.
 */
#include "tests.h"

static void check_one_interrupt(unsigned vp, unsigned sint)
{
    CHECK_NAMED(wait_for_count(vp, VECTOR_OF(sint), 1), "SINT%u interrupts VP %u", sint, vp);
    CHECK_EQUAL_NAMED(interrupts_counted_total(), 1, "SINT%u of VP %u interrupts once, and no other VP", sint, vp);
    interrupt_counts_clear();
}

struct raise {
    unsigned vp, sint;
};

static void raise_here(void *argument)
{
    const struct raise *raise = argument;
    test_device(TEST_SINT_SET, raise->vp, raise->sint, 0);
}

void sint_interrupts(void)
{
    interrupt_counts_clear();
    for (unsigned vp = 0; vp < vps(); vp++)
        for (unsigned sint = 0; sint < HV_SINTS; sint++) {
            /* From the boot processor, and from some other. */
            struct raise raise = {vp, sint};
            raise_here(&raise);
            check_one_interrupt(vp, sint);
            smp_call((vp + sint) % vps(), raise_here, &raise, PATIENCE_MILLISECONDS);
            check_one_interrupt(vp, sint);
        }

    /* Two SINTs may share a vector; one may change its own. */
    sint_set_on(0, 4, VECTOR_OF(3));
    test_device(TEST_SINT_SET, 0, 4, 0);
    CHECK("a SINT can have the vector of another", wait_for_count(0, VECTOR_OF(3), 1));
    test_device(TEST_SINT_SET, 0, 3, 0);
    CHECK("the other SINT still raises that vector", wait_for_count(0, VECTOR_OF(3), 2));
    sint_set_on(0, 4, VECTOR_OF(4));
    test_device(TEST_SINT_SET, 0, 4, 0);
    CHECK("a SINT raises its own vector again", wait_for_count(0, VECTOR_OF(4), 1));
    CHECK_EQUAL("no interrupt is lost or duplicated", interrupts_counted_total(), 3);
    interrupt_counts_clear();

    /* An interrupt that is raised while interrupts are disabled stays pending. Several merge. */
    for (unsigned round = 0; round < 3; round++)
        test_device(TEST_SINT_SET, 0, 7, 0);
    CHECK_EQUAL("no SINT interrupts while interrupts are off", interrupts_counted_total(), 0);
    CHECK("a pending SINT interrupts when interrupts are enabled", wait_for_count(0, VECTOR_OF(7), 1));
    wait_with_interrupts(1);
    CHECK_NAMED(interrupts_counted(0, VECTOR_OF(7)) <= 2, "three interrupts of a SINT merge");
    interrupt_counts_clear();
}

void masked(void)
{
    interrupt_counts_clear();
    for (unsigned vp = 0; vp < vps(); vp++) {
        for (unsigned sint = 0; sint < HV_SINTS; sint++) {
            sint_set_on(vp, sint, VECTOR_OF(sint) | HV_SINT_MASKED);
            test_device(TEST_SINT_SET, vp, sint, 0);
        }
        wait_with_interrupts(1);
        CHECK_EQUAL_NAMED(interrupts_counted_total(), 0, "no masked SINT interrupts VP %u", vp);
        for (unsigned sint = 0; sint < HV_SINTS; sint++) {
            sint_set_on(vp, sint, VECTOR_OF(sint));
            test_device(TEST_SINT_SET, vp, sint, 0);
            CHECK_NAMED(wait_for_count(vp, VECTOR_OF(sint), 1), "SINT%u of VP %u interrupts when it is not masked any more",
                        sint, vp);
        }
        interrupt_counts_clear();
    }
}

struct service {
    unsigned vector;
    bool in_service;
};

static void look_in_service(void *argument)
{
    struct service *service = argument;
    service->in_service = apic_read(APIC_IN_SERVICE + service->vector / 32) >> service->vector % 32 & 1;
}

/* On the user engine, the in-service bit may remain for a moment if the VP could not handle the interrupt for long. */
static bool is_in_service(unsigned vp, unsigned vector)
{
    struct service service = {vector, true};
    smp_call(vp, look_in_service, &service, PATIENCE_MILLISECONDS);
    return service.in_service;
}

void auto_eoi(void)
{
    interrupt_counts_clear();
    for (unsigned sint = 0; sint < HV_SINTS; sint++)
        count_interrupts_without_end(VECTOR_OF(sint));
    for (unsigned vp = 0; vp < vps(); vp++)
        for (unsigned sint = 0; sint < HV_SINTS; sint += 5) {
            sint_set_on(vp, sint, VECTOR_OF(sint) | HV_SINT_AUTO_EOI);
            for (unsigned round = 1; round <= 3; round++) {
                test_device(TEST_SINT_SET, vp, sint, 0);
                CHECK_NAMED(wait_for_count(vp, VECTOR_OF(sint), round),
                            "AutoEOI SINT%u interrupts VP %u the time %u, nobody having ended it", sint, vp, round);
                CHECK_NAMED(WAIT_UNTIL(!is_in_service(vp, VECTOR_OF(sint)), PATIENCE_MILLISECONDS),
                            "AutoEOI SINT%u leaves nothing in service on VP %u", sint, vp);
            }
            sint_set_on(vp, sint, VECTOR_OF(sint));
        }
    wait_with_interrupts(1);
    CHECK_EQUAL("no interrupt is duplicated with AutoEOI", interrupts_counted_total(), vps() * 4 * 3);
    for (unsigned sint = 0; sint < HV_SINTS; sint++)
        count_interrupts(VECTOR_OF(sint));
    interrupt_counts_clear();
}

void polling(void)
{
    struct message message;
    interrupt_counts_clear();
    for (unsigned vp = 0; vp < vps(); vp++) {
        unsigned connection = MESSAGES_FOR(vp, 9);
        test_device(TEST_MESSAGES_CREATE, vp, 9, connection);
        sint_set_on(vp, 9, VECTOR_OF(9) | HV_SINT_POLLING);
        CHECK_EQUAL_NAMED(post(connection, vp), STATUS_SUCCESS, "a message for a polled SINT of VP %u is accepted", vp);
        CHECK_NAMED(await_on(vp, 9, &message), "VP %u finds the message by polling", vp);
        CHECK_EQUAL_NAMED(message.payload.words[0], vp, "the polled message is the one for VP %u", vp);
        if (hyperv_has(HV_SINT_POLLING_MODE)) {
            wait_with_interrupts(1);
            CHECK_EQUAL_NAMED(interrupts_counted_total(), 0, "a polled SINT does not interrupt VP %u", vp);
        } else {
            CHECK_NAMED(wait_for_count(vp, VECTOR_OF(9), 1), "polling is not offered: VP %u is interrupted", vp);
        }
        interrupt_counts_clear();
        sint_set_on(vp, 9, VECTOR_OF(9));
        test_device(TEST_MESSAGES_DESTROY, vp, 9, connection);
    }
}
