/* Tasks of the agent as the first process of a machine: mounts and modules. */
#include "frames.h"

#define MS_NOSUID 2
#define MS_NODEV 4
#define MS_NOEXEC 8
static void mount_or_say(const char *type, const char *target, u32 flags, const char *options)
{
    call(__NR_mkdir, target, 0755);
    long error = call(__NR_mount, type, target, type, flags, options);
    if (error && error != -EBUSY)
        say("cannot mount", target, error);
}

static long load_module(const char *path, const char *parameters)
{
    long fd = call(__NR_open, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    long error = call(__NR_finit_module, fd, parameters, 0);
    call(__NR_close, fd);
    return error == -EEXIST ? 0 : error;
}

static void load_or_say(char *path, char *parameters)
{
    long error = load_module(path, parameters);
    if (error)
        say("cannot load the module", path, error);
    /* The kernel has its own copy of the file now. */
    call(__NR_unlink, path);
}

void start_machine(void)
{
    mount_or_say("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_say("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_say("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
    mount_or_say("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666,gid=5");
    mount_or_say("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    call(__NR_symlink, "/proc/self/fd", "/dev/fd");
    call(__NR_symlink, "/proc/self/fd/0", "/dev/stdin");
    call(__NR_symlink, "/proc/self/fd/1", "/dev/stdout");
    call(__NR_symlink, "/proc/self/fd/2", "/dev/stderr");
    /* A line is a path, perhaps followed by parameters. */
    each_line("/modules.list", load_or_say);
    call(__NR_setsid, 0);
}

void power_off(void)
{
    call(__NR_sync, 0);
    call(__NR_reboot, 0xfee1dead, 672274793, 0x4321fedc, NULL);
    /* This call does not return. */
    for (;;)
        call(__NR_pause, 0);
}
