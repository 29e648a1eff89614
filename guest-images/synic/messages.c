/*
 * Messages: the content of a slot, and the delivery of the next message.
 */
#include "tests.h"

#define SINT 2
/* More messages than any hypervisor queues for one slot. */
#define POSTS_MAX 200

static void check_message(const struct message *message, uint64_t payload, unsigned vp, unsigned sint)
{
    CHECK_EQUAL_NAMED(message->type, MESSAGE_TYPE, "SINT%u of VP %u: the message has its type", sint, vp);
    CHECK_EQUAL_NAMED(message->size, sizeof payload, "SINT%u of VP %u: the message has its size", sint, vp);
    CHECK_EQUAL_NAMED(message->flags & ~MESSAGE_PENDING, 0, "SINT%u of VP %u: reserved flags are zero", sint, vp);
    CHECK_EQUAL_NAMED(message->reserved, 0, "SINT%u of VP %u: reserved bytes are zero", sint, vp);
    CHECK_EQUAL_NAMED(message->payload.words[0], payload, "SINT%u of VP %u: the message has its payload", sint, vp);
}

struct posting {
    unsigned connection;
    uint64_t payload, status;
};

static void post_here(void *argument)
{
    struct posting *posting = argument;
    posting->status = post(posting->connection, posting->payload);
}

/* From every VP to every VP, by every SINT in turn. */
void message_content(void)
{
    interrupt_counts_clear();
    for (unsigned vp = 0; vp < vps(); vp++)
        for (unsigned sint = 0; sint < HV_SINTS; sint++) {
            unsigned sender = (vp + sint) % vps();
            struct posting posting = {MESSAGES_FOR(vp, sint), sender << 16 | vp << 8 | sint, UINT64_MAX};
            struct message message;
            test_device(TEST_MESSAGES_CREATE, vp, sint, posting.connection);
            smp_call(sender, post_here, &posting, PATIENCE_MILLISECONDS);
            CHECK_EQUAL_NAMED(posting.status, STATUS_SUCCESS, "VP %u posts to SINT%u of VP %u", sender, sint, vp);
            CHECK_NAMED(wait_for_count(vp, VECTOR_OF(sint), 1), "SINT%u interrupts VP %u for its message", sint, vp);
            CHECK_NAMED(await_on(vp, sint, &message), "SINT%u of VP %u: the message is in its slot", sint, vp);
            check_message(&message, posting.payload, vp, sint);
            CHECK_EQUAL_NAMED(message.flags, 0, "SINT%u of VP %u: no further message is pending", sint, vp);
            CHECK_EQUAL_NAMED(interrupts_counted_total(), 1, "one message causes one interrupt, SINT%u of VP %u", sint, vp);
            interrupt_counts_clear();
            test_device(TEST_MESSAGES_DESTROY, vp, sint, posting.connection);
        }
}

/* Fills one slot and its queue, and then takes all messages in order. */
void message_order(void)
{
    interrupt_counts_clear();
    for (unsigned vp = 0; vp < vps(); vp++) {
        unsigned connection = MESSAGES_FOR(vp, SINT), accepted = 0;
        uint64_t status = STATUS_SUCCESS;
        struct message message;
        test_device(TEST_MESSAGES_CREATE, vp, SINT, connection);
        while (accepted < POSTS_MAX && (status = post(connection, 1000 + accepted)) == STATUS_SUCCESS)
            accepted++;
        CHECK_NAMED(accepted >= 2, "%u messages are accepted for VP %u while it takes none", accepted, vp);
        CHECK_EQUAL_NAMED(status, STATUS_INSUFFICIENT_BUFFERS, "further messages for VP %u fail for insufficient buffers", vp);
        CHECK_NAMED(wait_for_count(vp, VECTOR_OF(SINT), 1), "VP %u is interrupted", vp);
        CHECK_NAMED(WAIT_UNTIL(atomic_load(&synics[vp].messages[SINT].flags) & MESSAGE_PENDING, PATIENCE_MILLISECONDS),
                    "MessagePending tells VP %u that others wait", vp);
        CHECK_EQUAL_NAMED(synics[vp].messages[SINT].payload.words[0], 1000, "the first message stays in VP %u's slot", vp);
        unsigned taken = 0, in_order = 0;
        bool last_was_marked = true;
        while (taken < accepted && await_on(vp, SINT, &message)) {
            in_order += message.payload.words[0] == 1000 + taken && message.type == MESSAGE_TYPE;
            last_was_marked = message.flags & MESSAGE_PENDING;
            taken++;
        }
        CHECK_EQUAL_NAMED(taken, accepted, "VP %u gets every accepted message", vp);
        CHECK_EQUAL_NAMED(in_order, accepted, "VP %u gets messages in the order in which they were posted", vp);
        CHECK_NAMED(!last_was_marked, "the last message for VP %u is not marked as followed by another", vp);
        wait_with_interrupts(1);
        CHECK_EQUAL_NAMED(synics[vp].messages[SINT].type, MESSAGE_NONE, "no message follows the last one on VP %u", vp);
        interrupt_counts_clear();
        CHECK_EQUAL_NAMED(post(connection, 1), STATUS_SUCCESS, "a message for VP %u is accepted when its queue is empty again", vp);
        CHECK_NAMED(await_on(vp, SINT, &message), "VP %u gets the message after the queue was empty", vp);
        CHECK_NAMED(wait_for_count(vp, VECTOR_OF(SINT), 1), "VP %u is interrupted for the message after the queue was empty", vp);
        interrupt_counts_clear();
        test_device(TEST_MESSAGES_DESTROY, vp, SINT, connection);
    }
}

/* The next message is delivered on EOM, not when the slot becomes free. */
void message_end(void)
{
    unsigned connection = MESSAGES_FOR(0, SINT);
    test_device(TEST_MESSAGES_CREATE, 0, SINT, connection);
    interrupt_counts_clear();
    CHECK_EQUAL("a message is posted", post(connection, 1), STATUS_SUCCESS);
    CHECK("the message or event interrupts", wait_for_count(0, VECTOR_OF(SINT), 1));
    CHECK_EQUAL("another message is posted", post(connection, 2), STATUS_SUCCESS);
    CHECK("the other message is marked as pending", WAIT_UNTIL(atomic_load(&message_slot(SINT)->flags) & MESSAGE_PENDING, PATIENCE_MILLISECONDS));
    CHECK("freeing the slot shows that EOM must be written", message_free(SINT));
    wait_with_interrupts(2);
    CHECK_EQUAL("the other message is not delivered before EOM", message_slot(SINT)->type, MESSAGE_NONE);
    CHECK_EQUAL("the other message does not interrupt before EOM", interrupts_counted(0, VECTOR_OF(SINT)), 1);
    wrmsr(HV_MSR_EOM, 0);
    CHECK("the other message interrupts after EOM", wait_for_count(0, VECTOR_OF(SINT), 2));
    CHECK_EQUAL("the other message is in the slot after EOM", message_slot(SINT)->payload.words[0], 2);
    wrmsr(HV_MSR_EOM, 0);
    wait_with_interrupts(1);
    CHECK_EQUAL("EOM does not touch a slot that is busy", message_slot(SINT)->payload.words[0], 2);
    message_free(SINT);
    wrmsr(HV_MSR_EOM, 0);
    wait_with_interrupts(1);
    CHECK_EQUAL("EOM without a pending message delivers nothing", interrupts_counted(0, VECTOR_OF(SINT)), 2);

    /* A masked SINT gets its message without an interrupt. */
    sint_set(SINT, VECTOR_OF(SINT) | HV_SINT_MASKED);
    interrupt_counts_clear();
    CHECK_EQUAL("a message for a masked SINT is accepted", post(connection, 3), STATUS_SUCCESS);
    wait_with_interrupts(1);
    CHECK_EQUAL("a message for a masked SINT does not interrupt", interrupts_counted(0, VECTOR_OF(SINT)), 0);
    sint_set(SINT, VECTOR_OF(SINT));
    struct message message;
    while (WAIT_UNTIL(message_slot(SINT)->type, 1))
        message_take(SINT, &message);
    /* On the kernel engine, EOM retries the interrupt for the message of a masked SINT. */
    wait_with_interrupts(1);
    test_device(TEST_MESSAGES_DESTROY, 0, SINT, connection);
}

/* A message that is posted while the SynIC or the page is disabled is not visible. If it is accepted, it is delivered later. */
static void check_off(const char *what, uint32_t msr, unsigned connection)
{
    uint64_t value = rdmsr(msr);
    struct message message;
    wrmsr(msr, value & ~1ULL);
    uint64_t status = post(connection, 77);
    wait_with_interrupts(1);
    CHECK_EQUAL_NAMED(interrupts_counted_total(), 0, "no message interrupts while %s is off", what);
    wrmsr(msr, value);
    if (status == STATUS_SUCCESS) {
        wrmsr(HV_MSR_EOM, 0);
        CHECK_NAMED(wait_for_count(0, VECTOR_OF(SINT), 1), "the message interrupts when %s is enabled again", what);
        CHECK_NAMED(message_take(SINT, &message), "the message is in its slot when %s is enabled again", what);
    } else {
        wait_with_interrupts(1);
        CHECK_EQUAL_NAMED(message_slot(SINT)->type, MESSAGE_NONE, "a message that was refused while %s was disabled is not delivered later",
                          what);
    }
    interrupt_counts_clear();
    CHECK_EQUAL_NAMED(post(connection, 78), STATUS_SUCCESS, "messages are accepted when %s is enabled again", what);
    CHECK_NAMED(wait_for_count(0, VECTOR_OF(SINT), 1), "messages interrupt when %s is enabled again", what);
    CHECK_NAMED(message_take(SINT, &message), "messages are in their slot when %s is enabled again", what);
    CHECK_EQUAL("the message has its payload", message.payload.words[0], 78);
    interrupt_counts_clear();
}

void synic_off(void)
{
    unsigned connection = MESSAGES_FOR(0, SINT);
    test_device(TEST_MESSAGES_CREATE, 0, SINT, connection);
    interrupt_counts_clear();
    check_off("SCONTROL", HV_MSR_SCONTROL, connection);
    check_off("SIMP", HV_MSR_SIMP, connection);
    test_device(TEST_MESSAGES_DESTROY, 0, SINT, connection);
}

void moved_pages(void)
{
    unsigned connection = MESSAGES_FOR(0, SINT), events = EVENTS_FOR(0, SINT);
    struct message *old = synics[0].messages, *moved = pages_allocate(1);
    uint64_t(*old_flags)[EVENT_FLAGS / 64] = synics[0].flags, (*moved_flags)[EVENT_FLAGS / 64] = pages_allocate(1);
    struct message message;

    interrupt_counts_clear();
    test_device(TEST_MESSAGES_CREATE, 0, SINT, connection);
    test_device(TEST_EVENTS_CREATE, 0, SINT, events);
    synics[0].messages = moved;
    wrmsr(HV_MSR_SIMP, (uint64_t)moved | HV_PAGE_ENABLE);
    memset(old, 0x33, PAGE_SIZE);
    CHECK_EQUAL("a message is accepted after SIMP moved", post(connection, 5), STATUS_SUCCESS);
    CHECK("the message or event interrupts", wait_for_count(0, VECTOR_OF(SINT), 1));
    CHECK("the message is on the new page", message_take(SINT, &message));
    CHECK_EQUAL("the message on the new page has its payload", message.payload.words[0], 5);
    CHECK_EQUAL("the type in the old page is not changed", old[SINT].type, 0x33333333);
    CHECK_EQUAL("the payload in the old page is not changed", old[SINT].payload.words[0], 0x3333333333333333ULL);

    synics[0].flags = moved_flags;
    wrmsr(HV_MSR_SIEFP, (uint64_t)moved_flags | HV_PAGE_ENABLE);
    memset(old_flags, 0, PAGE_SIZE);
    CHECK_EQUAL("an event is accepted after SIEFP moved", signal(events), STATUS_SUCCESS);
    CHECK("the message or event interrupts", wait_for_count(0, VECTOR_OF(SINT), 2));
    CHECK("the event's flag is set on the new page", event_flag(0, SINT, events));
    CHECK_EQUAL("the event's flag is not set on the old page", old_flags[SINT][events / 64], 0);

    /* A message that waits for a slot while the page moves is not lost. */
    CHECK_EQUAL("a message is posted", post(connection, 6), STATUS_SUCCESS);
    CHECK("the message interrupts", wait_for_count(0, VECTOR_OF(SINT), 3));
    CHECK_EQUAL("another message is posted", post(connection, 7), STATUS_SUCCESS);
    memset(old, 0, PAGE_SIZE);
    synics[0].messages = old;
    wrmsr(HV_MSR_SIMP, (uint64_t)old | HV_PAGE_ENABLE);
    for (unsigned round = 0; round < 2 && message.payload.words[0] != 7; round++) {
        wrmsr(HV_MSR_EOM, 0);
        await_on(0, SINT, &message);
    }
    CHECK_EQUAL("the pending message is delivered to the new page", message.payload.words[0], 7);
    CHECK("the pending message interrupts", wait_for_count(0, VECTOR_OF(SINT), 4));
    test_device(TEST_EVENTS_DESTROY, 0, SINT, events);
    test_device(TEST_MESSAGES_DESTROY, 0, SINT, connection);
    interrupt_counts_clear();
}
