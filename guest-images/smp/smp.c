/*
 * Checks that all processors of the MADT start, identify themselves correctly, and can interrupt each other.
 *
 * Command line: `cpus=N` is the expected number of processors; `apic=xapic` disables x2APIC.
 */
#include "runtime.h"

/* One vector for each sender. */
#define VECTOR_PING 0x40
#define PATIENCE_MILLISECONDS 10000

#define CPUID_1_ECX_X2APIC (1u << 21)
#define CPUID_1_EDX_HTT (1u << 28)
#define LEAF_TOPOLOGY 0xb
#define TOPOLOGY_LEVEL_END 0
#define TOPOLOGY_LEVEL_SMT 1
#define TOPOLOGY_LEVEL_CORE 2

/* What a processor reports about itself. It writes this, and the boot processor checks it. */
static struct self {
    unsigned index;
    uint32_t apic_id, initial_apic_id, topology_apic_id;
    unsigned package_processors;
} selves[CPUS_MAX] NOT_CLEARED;

/* Number of interrupts, by target and sender. */
static unsigned pings[CPUS_MAX][CPUS_MAX] NOT_CLEARED;
static unsigned nmis[CPUS_MAX];

static void on_ping(struct interrupt_frame *frame)
{
    atomic_add(&pings[this_cpu()->index][frame->vector - VECTOR_PING], 1);
    apic_end_of_interrupt();
}

static void on_nmi(struct interrupt_frame *frame)
{
    (void)frame;
    atomic_add(&nmis[this_cpu()->index], 1);
}

static bool has_topology_leaf(void)
{
    return cpuid(0).eax >= LEAF_TOPOLOGY && cpuid_subleaf(LEAF_TOPOLOGY, 0).ebx != 0;
}

/* Number of processors in a package: the count of the last level in leaf 0xB. */
static unsigned package_processors(void)
{
    unsigned count = 0;
    for (unsigned level = 0;; level++) {
        struct cpuid leaf = cpuid_subleaf(LEAF_TOPOLOGY, level);
        if ((leaf.ecx >> 8 & 0xff) == TOPOLOGY_LEVEL_END)
            return count;
        count = leaf.ebx & 0xffff;
    }
}

static void describe_self(void *argument)
{
    (void)argument;
    struct self *self = &selves[this_cpu()->index];
    self->index = this_cpu()->index;
    self->apic_id = apic_id();
    self->initial_apic_id = cpuid(1).ebx >> 24;
    self->topology_apic_id = cpuid_subleaf(LEAF_TOPOLOGY, 0).edx;
    self->package_processors = package_processors();
}

static void start(void)
{
    unsigned listed = acpi_processor_count();
    unsigned started = smp_start_all();
    CHECK_EQUAL("every processor that the MADT lists runs", started, listed < CPUS_MAX ? listed : CPUS_MAX);
    CHECK_EQUAL("the number of processors is the one on the command line", started, command_line_number("cpus", started));
    CHECK("x2APIC is on wherever the processor has it",
          apic_is_x2apic() || command_line_has("apic") || !(cpuid(1).ecx & CPUID_1_ECX_X2APIC));
}

static void identity(void)
{
    for (unsigned i = 0; i < cpu_count; i++)
        selves[i].index = CPUS_MAX;
    CHECK("every processor runs a function",
          smp_run_everywhere(describe_self, NULL, PATIENCE_MILLISECONDS));
    for (unsigned i = 0; i < cpu_count; i++) {
        const struct self *self = &selves[i];
        CHECK_EQUAL_NAMED(self->index, i, "processor %u knows its index", i);
        CHECK_EQUAL_NAMED(self->apic_id, cpus[i].apic_id, "processor %u has the MADT's APIC id", i);
        CHECK_EQUAL_NAMED(self->initial_apic_id, cpus[i].apic_id & 0xff, "processor %u has its APIC id in CPUID leaf 1", i);
        if (has_topology_leaf())
            CHECK_EQUAL_NAMED(self->topology_apic_id, cpus[i].apic_id, "processor %u has its APIC id in CPUID leaf 0xB", i);
        for (unsigned j = 0; j < i; j++)
            if (self->apic_id == selves[j].apic_id)
                CHECK_NAMED(false, "processors %u and %u have different APIC ids", j, i);
    }
}

/* The levels of leaf 0xB, seen from every processor. */
static void topology(void)
{
    unsigned package = selves[0].package_processors;
    if (!has_topology_leaf()) {
        print("# this processor has no topology leaf\n");
        return;
    }
    CHECK_EQUAL("leaf 0xB begins with the threads of a core",
                cpuid_subleaf(LEAF_TOPOLOGY, 0).ecx >> 8 & 0xff, TOPOLOGY_LEVEL_SMT);
    CHECK_EQUAL("leaf 0xB goes on with the cores of a package",
                cpuid_subleaf(LEAF_TOPOLOGY, 1).ecx >> 8 & 0xff, TOPOLOGY_LEVEL_CORE);
    CHECK("a package's processors divide all processors", package && cpu_count % package == 0);
    CHECK("leaf 1 has HTT if a package has several processors",
          package == 1 || cpuid(1).edx & CPUID_1_EDX_HTT);
    unsigned shift = cpuid_subleaf(LEAF_TOPOLOGY, 1).eax & 0x1f;
    CHECK_NAMED(package <= 1u << shift, "%u processors fit into the APIC id's %u bits", package, shift);
    for (unsigned i = 1; i < cpu_count; i++)
        CHECK_EQUAL_NAMED(selves[i].package_processors, package, "processor %u sees the same package", i);
}

static unsigned arrived(unsigned target, unsigned sender)
{
    return atomic_load(&pings[target][sender]);
}

/* Waits with interrupts enabled, because the boot processor is a target as well. */
static bool arrives(unsigned target, unsigned sender)
{
    interrupts_on();
    bool has_arrived = WAIT_UNTIL(arrived(target, sender), PATIENCE_MILLISECONDS);
    interrupts_off();
    return has_arrived;
}

static unsigned arrived_total(void)
{
    unsigned sum = 0;
    for (unsigned target = 0; target < cpu_count; target++)
        for (unsigned sender = 0; sender < cpu_count; sender++)
            sum += arrived(target, sender);
    return sum;
}

static void clear_pings(void)
{
    for (unsigned target = 0; target < cpu_count; target++)
        for (unsigned sender = 0; sender < cpu_count; sender++)
            atomic_store(&pings[target][sender], 0);
}

/* Each sender has its own vector, because interrupts with the same vector may merge in the target's APIC. */
static void send_ping(uint32_t destination, uint32_t shorthand)
{
    apic_send(destination, APIC_FIXED | APIC_ASSERT | shorthand | (VECTOR_PING + this_cpu()->index));
}

static void ping(void *target)
{
    send_ping(((const struct cpu *)target)->apic_id, 0);
}

static void ping_all_others(void *unused)
{
    (void)unused;
    for (unsigned target = 0; target < cpu_count; target++)
        if (target != this_cpu()->index)
            send_ping(cpus[target].apic_id, 0);
}

static void prepare_pings(void)
{
    for (unsigned i = 0; i < cpu_count; i++)
        interrupt_set_handler(VECTOR_PING + i, on_ping);
    clear_pings();
}

/* One sender and one target at a time. */
static void each_to_each(void)
{
    prepare_pings();
    for (unsigned sender = 0; sender < cpu_count; sender++) {
        unsigned reached = 0;
        for (unsigned target = 0; target < cpu_count; target++) {
            if (target == sender)
                continue;
            if (sender == 0)
                ping(&cpus[target]);
            else
                smp_run(sender, ping, &cpus[target]);
            reached += arrives(target, sender);
            if (sender)
                smp_wait(sender, PATIENCE_MILLISECONDS);
        }
        CHECK_EQUAL_NAMED(reached, cpu_count - 1, "processor %u interrupts each of the others", sender);
    }
    CHECK_EQUAL("every interrupt arrived exactly once", arrived_total(), cpu_count * (cpu_count - 1));
}

static void all_at_once(void)
{
    clear_pings();
    CHECK("all processors send at the same time",
          smp_run_everywhere(ping_all_others, NULL, PATIENCE_MILLISECONDS));
    for (unsigned target = 0; target < cpu_count; target++)
        for (unsigned sender = 0; sender < cpu_count; sender++)
            if (target != sender && !arrives(target, sender))
                CHECK_NAMED(false, "processor %u's interrupt reaches processor %u", sender, target);
    CHECK_EQUAL("every interrupt arrived exactly once", arrived_total(), cpu_count * (cpu_count - 1));
}

static void shorthands(void)
{
    clear_pings();
    send_ping(0, APIC_TO_SELF);
    CHECK("an interrupt to self arrives", arrives(0, 0));
    CHECK_EQUAL("an interrupt to self goes nowhere else", arrived_total(), 1);

    clear_pings();
    send_ping(0, APIC_TO_OTHERS);
    for (unsigned target = 1; target < cpu_count; target++)
        CHECK_NAMED(arrives(target, 0), "an interrupt to all others reaches processor %u", target);
    CHECK_EQUAL("an interrupt to all others goes nowhere else", arrived_total(), cpu_count - 1);

    clear_pings();
    send_ping(0, APIC_TO_ALL);
    for (unsigned target = 0; target < cpu_count; target++)
        CHECK_NAMED(arrives(target, 0), "an interrupt to all reaches processor %u", target);
    CHECK_EQUAL("an interrupt to all arrives once each", arrived_total(), cpu_count);
}

static void non_maskable(void)
{
    interrupt_set_handler(VECTOR_NMI, on_nmi);
    for (unsigned target = 1; target < cpu_count; target++) {
        apic_send(cpus[target].apic_id, APIC_NMI | APIC_ASSERT);
        CHECK_NAMED(WAIT_UNTIL(atomic_load(&nmis[target]) == 1, PATIENCE_MILLISECONDS),
                    "an NMI reaches processor %u", target);
    }
    interrupt_set_handler(VECTOR_NMI, NULL);
}

int main(void)
{
    static const struct test tests[] = {
        {"start", start},
        {"identity", identity},
        {"topology", topology},
        {"each-to-each", each_to_each},
        {"all-at-once", all_at_once},
        {"shorthands", shorthands},
        {"non-maskable", non_maskable},
    };
    return RUN_CHECKS(tests);
}
