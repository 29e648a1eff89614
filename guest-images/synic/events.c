/*
 * Event flags, connections, and messages and events from all VPs at once.
 */
#include "tests.h"

#define EVENT_SINT 6
#define ROUNDS 20

static void check_event(unsigned vp, unsigned sint, unsigned connection)
{
    CHECK_NAMED(wait_for_count(vp, VECTOR_OF(sint), 1), "connection 0x%x: SINT%u interrupts VP %u", connection, sint, vp);
    CHECK_NAMED(event_flag(vp, sint, connection), "connection 0x%x: the flag is set for SINT%u of VP %u", connection, sint, vp);
}

/* The flags of a SINT that are set. */
static unsigned flags_set(unsigned vp, unsigned sint)
{
    unsigned count = 0;
    for (unsigned word = 0; word < EVENT_FLAGS / 64; word++)
        for (uint64_t flags = atomic_load(&synics[vp].flags[sint][word]); flags; flags &= flags - 1)
            count++;
    return count;
}

static uint64_t signal_in_memory(unsigned connection)
{
    static uint64_t parameters __attribute__((aligned(8)));
    parameters = connection;
    return RESULT_STATUS(hypercall(CALL_SIGNAL_EVENT, (uint64_t)&parameters, 0));
}

static uint64_t signal32(unsigned connection)
{
    return RESULT_STATUS(hypercall32(CALL_SIGNAL_EVENT | CALL_FAST, connection, 0));
}

void event_flags(void)
{
    static uint64_t (*const ways[])(unsigned connection) = {signal, signal_in_memory, signal32};
    static const char *const names[] = {"fast", "in memory", "from 32-bit code"};
    interrupt_counts_clear();
    for (unsigned vp = 0; vp < vps(); vp++)
        for (unsigned sint = 0; sint < HV_SINTS; sint += 3) {
            unsigned connection = EVENTS_FOR(vp, sint);
            for (unsigned way = 0; way < ARRAY_LENGTH(ways); way++) {
                test_device(TEST_EVENTS_CREATE, vp, sint, connection);
                CHECK_EQUAL_NAMED(ways[way](connection), STATUS_SUCCESS, "an event for SINT%u of VP %u is accepted, %s", sint,
                                  vp, names[way]);
                check_event(vp, sint, connection);
                CHECK_EQUAL_NAMED(ways[way](connection), STATUS_SUCCESS, "an event is accepted while its flag is set, %s", names[way]);
                wait_with_interrupts(1);
                /* The host may set the flag late, so wait first. */
                test_device(TEST_EVENTS_DESTROY, vp, sint, connection);
                wait_with_interrupts(1);
                CHECK_EQUAL_NAMED(interrupts_counted_total(), 1, "an event whose flag is set does not interrupt again, %s", names[way]);
                CHECK_EQUAL_NAMED(flags_set(vp, sint), 1, "no other flag is set, %s", names[way]);
                event_flag_clear(vp, sint, connection);
                interrupt_counts_clear();
            }
        }

    /* Several flags of one SINT. */
    static const unsigned several[] = {9, 63, 64, 200, 255};
    for (unsigned i = 0; i < ARRAY_LENGTH(several); i++) {
        test_device(TEST_EVENTS_CREATE, 0, EVENT_SINT, several[i]);
        CHECK_EQUAL_NAMED(signal(several[i]), STATUS_SUCCESS, "flag %u is signalled", several[i]);
        CHECK_NAMED(wait_for_count(0, VECTOR_OF(EVENT_SINT), i + 1), "flag %u interrupts", several[i]);
        CHECK_NAMED(event_flag(0, EVENT_SINT, several[i]), "flag %u is set", several[i]);
        CHECK_EQUAL_NAMED(flags_set(0, EVENT_SINT), i + 1, "the flags before %u are still set, and no others", several[i]);
        test_device(TEST_EVENTS_DESTROY, 0, EVENT_SINT, several[i]);
    }
    for (unsigned i = 0; i < ARRAY_LENGTH(several); i++)
        event_flag_clear(0, EVENT_SINT, several[i]);
    interrupt_counts_clear();
}

/* Ports can be created and removed, and accept either messages or events. */
void connections(void)
{
    unsigned messages = MESSAGES_FOR(0, EVENT_SINT), events = EVENTS_FOR(0, EVENT_SINT);
    CHECK_EQUAL("a message to a connection that does not exist yet is refused", post(messages, 0), STATUS_INVALID_CONNECTION_ID);
    CHECK_EQUAL("an event for a connection that does not exist is refused", signal(events), STATUS_INVALID_CONNECTION_ID);
    test_device(TEST_MESSAGES_CREATE, 0, EVENT_SINT, messages);
    test_device(TEST_EVENTS_CREATE, 0, EVENT_SINT, events);
    CHECK_EQUAL("a message to a port for events is refused", post(events, 0), STATUS_INVALID_PORT_ID);
    CHECK_EQUAL("an event for a port for messages is refused", signal(messages), STATUS_INVALID_PORT_ID);
    CHECK_EQUAL("an event with a flag number beyond the port's is refused",
                RESULT_STATUS(hypercall(CALL_SIGNAL_EVENT | CALL_FAST, events | 5000ULL << 32, 0)),
                STATUS_INVALID_PARAMETER);
    test_device(TEST_MESSAGES_DESTROY, 0, EVENT_SINT, messages);
    test_device(TEST_EVENTS_DESTROY, 0, EVENT_SINT, events);
    CHECK_EQUAL("a message to a removed connection is refused", post(messages, 0), STATUS_INVALID_CONNECTION_ID);
    CHECK_EQUAL("an event for a connection that does not exist is refused", signal(events), STATUS_INVALID_CONNECTION_ID);
    wait_with_interrupts(1);
    CHECK_EQUAL("refused messages and events do not interrupt", interrupts_counted_total(), 0);
}

#define BUSY_SINT 2

/* By receiver. */
static unsigned received[CPUS_MAX], disorder[CPUS_MAX];

/* Handles messages. Their payloads are ascending numbers. */
static void receive(struct interrupt_frame *frame)
{
    unsigned vp = this_cpu()->index;
    struct message message;
    (void)frame;
    while (message_take(BUSY_SINT, &message)) {
        disorder[vp] += message.payload.words[0] != received[vp];
        atomic_add(&received[vp], 1);
    }
    apic_end_of_interrupt();
}

/* Each VP sends to the next one, or to itself if there is only one. Interrupts are enabled, because it also receives. */
static void send(void *failures)
{
    unsigned next = (this_cpu()->index + 1) % vps();
    if (this_cpu()->index >= vps())
        return;
    interrupts_on();
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t status = STATUS_INSUFFICIENT_BUFFERS;
        WAIT_UNTIL((status = post(MESSAGES_FOR(next, BUSY_SINT), round)) != STATUS_INSUFFICIENT_BUFFERS,
                   PATIENCE_MILLISECONDS);
        atomic_add((unsigned *)failures, status != STATUS_SUCCESS);
        /* Each event is handled before the next is signalled, so that events do not merge. */
        unsigned flag = EVENTS_FOR(next, EVENT_SINT);
        atomic_add((unsigned *)failures, signal(flag) != STATUS_SUCCESS);
        atomic_add((unsigned *)failures, !WAIT_UNTIL(event_flag(next, EVENT_SINT, flag), PATIENCE_MILLISECONDS));
        event_flag_clear(next, EVENT_SINT, flag);
    }
    WAIT_UNTIL(atomic_load(&received[this_cpu()->index]) >= ROUNDS, PATIENCE_MILLISECONDS);
    interrupts_off();
}

void all_at_once(void)
{
    unsigned failures = 0;
    interrupt_set_handler(VECTOR_OF(BUSY_SINT), receive);
    for (unsigned vp = 0; vp < vps(); vp++) {
        test_device(TEST_MESSAGES_CREATE, vp, BUSY_SINT, MESSAGES_FOR(vp, BUSY_SINT));
        test_device(TEST_EVENTS_CREATE, vp, EVENT_SINT, EVENTS_FOR(vp, EVENT_SINT));
    }
    CHECK("all VPs send and receive at once", smp_run_everywhere(send, &failures, 3 * PATIENCE_MILLISECONDS));
    CHECK_EQUAL("no message and no event is refused or lost", failures, 0);
    for (unsigned vp = 0; vp < vps(); vp++) {
        CHECK_EQUAL_NAMED(received[vp], ROUNDS, "VP %u receives each message once", vp);
        CHECK_EQUAL_NAMED(disorder[vp], 0, "VP %u receives messages in order", vp);
        test_device(TEST_MESSAGES_DESTROY, vp, BUSY_SINT, MESSAGES_FOR(vp, BUSY_SINT));
        test_device(TEST_EVENTS_DESTROY, vp, EVENT_SINT, EVENTS_FOR(vp, EVENT_SINT));
    }
    count_interrupts(VECTOR_OF(BUSY_SINT));
}
