/* The minimum work of a VMM: creates a KVM machine, runs one OUT in it, and ends.
 *
 * The machine is the one of `viridian run`: 256 MiB of memory with huge pages, the local APIC in KVM and the IOAPIC not
 * (the split interrupt controllers), KVM's own CPUID leaves, one virtual processor in 64-bit mode with its page tables
 * in guest memory. With an argument it waits at the OUT, so that its resident memory can be seen. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY (256ul << 20)
#define HUGE_PAGE (2ul << 20)
#define TABLES 0x1000ul
#define CODE 0x100000ul
#define LEAVES 128

static int checked(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

int main(int count, char **arguments)
{
    /* mov $0xf4, %dx; xor %eax, %eax; out %al, %dx; hlt */
    static const uint8_t code[] = {0x66, 0xba, 0xf4, 0x00, 0x31, 0xc0, 0xee, 0xf4};
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY};
    struct kvm_segment code_segment = {.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data_segment = {.limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    struct kvm_regs registers = {.rip = CODE, .rflags = 2, .rsp = 0x7c00};
    struct kvm_sregs system;
    struct kvm_cpuid2 *cpuid;
    struct kvm_run *run;
    uint64_t *tables;
    uint8_t *memory;
    int kvm, machine, vp, size;

    (void)arguments;
    kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    machine = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    checked(ioctl(machine, KVM_SET_TSS_ADDR, 0xfffbd000ul), "KVM_SET_TSS_ADDR");
    checked(ioctl(machine, KVM_ENABLE_CAP, &split), "KVM_CAP_SPLIT_IRQCHIP");

    memory = mmap(NULL, MEMORY + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    checked(memory == MAP_FAILED ? -1 : 0, "mmap");
    memory = (uint8_t *)(((uintptr_t)memory + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    madvise(memory + HUGE_PAGE, MEMORY - HUGE_PAGE, MADV_HUGEPAGE);
    region.userspace_addr = (uintptr_t)memory;
    checked(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    memcpy(memory + CODE, code, sizeof code);
    /* One table per level; the first 2 MiB are one page. */
    tables = (uint64_t *)(memory + TABLES);
    tables[0] = (TABLES + 0x1000) | 3;
    tables[512] = (TABLES + 0x2000) | 3;
    tables[1024] = 0x83;

    vp = checked(ioctl(machine, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    size = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vp, 0);
    checked(run == MAP_FAILED ? -1 : 0, "mmap of the virtual processor");
    cpuid = calloc(1, sizeof *cpuid + LEAVES * sizeof cpuid->entries[0]);
    checked(cpuid ? 0 : -1, "calloc");
    cpuid->nent = LEAVES;
    checked(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
    checked(ioctl(vp, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
    checked(ioctl(vp, KVM_GET_SREGS, &system), "KVM_GET_SREGS");
    system.cs = code_segment;
    system.ds = system.es = system.fs = system.gs = system.ss = data_segment;
    system.cr0 = 0x80050033;
    system.cr3 = TABLES;
    system.cr4 = 0x20;
    system.efer = 0x500;
    checked(ioctl(vp, KVM_SET_SREGS, &system), "KVM_SET_SREGS");
    checked(ioctl(vp, KVM_SET_REGS, &registers), "KVM_SET_REGS");
    checked(ioctl(vp, KVM_RUN, 0), "KVM_RUN");
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != 0xf4) {
        fprintf(stderr, "KVM exited from the guest for reason %u, not for the port\n", run->exit_reason);
        return 1;
    }
    if (count > 1) {
        puts("ready");
        fflush(stdout);
        pause();
    }
    return 0;
}
