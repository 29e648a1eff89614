//! `viridian linux` on the nested host: a command in Debian's stock kernel, with its streams, signals and exit code.

use std::process::Command;

use crate::common::nested::{Batch, is_full};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Bytes of output that are checked.
const OUTPUT: [u32; 2] = [10_000_000, 100_000_000];

/// Runs a command on a terminal: changes its size, and types Ctrl-C. `$linux` is the command line up to the command.
const ON_A_TERMINAL: &str = r#"
    export linux guest='
        stty size; trap "stty size" WINCH; trap "echo caught; exit 5" INT
        echo ready; while :; do sleep 0.1; done'
    echo '
        tty >tty; stty rows 33 cols 44; stty -g >before
        $linux -- sh -c "$guest"
        echo "code $?"; stty -g >after' >inside
    mkfifo keys screen
    exec 3<>keys
    socat - 'EXEC:sh inside,pty,setsid,ctty,stderr' <keys >screen &
    exec 4<screen
    until_shown() { while read -r line <&4; do echo "$line"; case $line in *"$1"*) return ;; esac; done; }
    until_shown ready
    stty -F "$(cat tty)" rows 40 cols 100
    until_shown '40 100'
    printf '\003' >&3
    cat <&4
    cmp before after
"#;

fn output() -> u32 {
    OUTPUT[usize::from(is_full())]
}

static BATCH: Batch = Batch::new(|plan| {
    let kernel = Command::new(format!("{ROOT}/scripts/lib/debian-kernel")).output().expect("the script starts");
    assert!(kernel.status.success(), "{}", String::from_utf8_lossy(&kernel.stderr));
    let kernel = String::from_utf8(kernel.stdout).expect("a path").trim().to_owned();
    let release = std::fs::read_to_string(format!("{kernel}/release")).expect("the script wrote it");
    let modules = format!("{kernel}/lib/modules/{}/kernel", release.trim());
    let viridian = env!("CARGO_BIN_EXE_viridian");
    plan.file(viridian);
    plan.file(&format!("{kernel}/vmlinuz:/kernel/vmlinuz"));
    for module in ["drivers/hv/hv_vmbus", "net/vmw_vsock/vsock", "net/vmw_vsock/hv_sock", "fs/fuse/fuse"] {
        let name = module.rsplit('/').next().expect("a name");
        plan.file(&format!("{modules}/{module}.ko:/kernel/modules/{name}.ko"));
    }
    let linux = format!("{viridian} linux --kernel /kernel/vmlinuz --modules /kernel/modules --memory 256M");

    plan.check("code", 60, format!("echo input | {linux} --engine user -- sh -c 'cat; echo err >&2; exit 7'"));
    plan.check("bus", 60, format!("{linux} --engine kernel -- lsvmbus"));
    plan.check("missing", 60, format!("{linux} -- no-such-command"));
    plan.check(
        "files",
        60,
        format!(
            "echo from the host >given; \
             {linux} --file given:/opt/given -C /opt -e WORD=value -- sh -c 'pwd; cat given; echo $WORD'"
        ),
    );
    plan.check(
        "share",
        60,
        format!(
            "mkdir -p tree/sub; echo content >tree/sub/file; ln -s sub/file tree/link; ln -s /etc/hostname tree/out; \
             head -c 1000000 /dev/urandom >tree/random; md5sum tree/random | cut -c -32; \
             {linux} --engine kernel --share tree -- sh -c \
             'pwd; ls; cat link; md5sum random | cut -c -32; cat out || echo elsewhere; touch /host/new || echo refused'; \
             echo code $?; find tree -name new"
        ),
    );
    plan.check(
        "share_rw",
        60,
        format!(
            "mkdir tree; echo old >tree/file; mkdir second; echo two >second/two; \
             {linux} --engine user --share tree:/build/tree,rw --share second -- sh -c \
             'set -e; cat /host/two; echo new >>file; mkdir made; mv file made/; ln -s file made/link; cat made/link; \
             seq 100000 | tee made/numbers | md5sum; chmod 700 made; cp made/numbers copy; rm made/numbers; \
             ! mkfifo pipe; ! mknod device c 1 3; ls -l /build/tree | wc -l'; \
             echo code $?; cat tree/made/link; md5sum <tree/copy; stat -c %a tree/copy tree/made; ls tree"
        ),
    );
    plan.check("output", 120, format!("{linux} -- head -c {} /dev/zero | md5sum", output()));
    plan.check("expected", 60, format!("head -c {} /dev/zero | md5sum", output()));
    plan.check(
        "interrupt",
        60,
        format!(
            "mkfifo pipe; {linux} -- sh -c 'trap \"echo caught; exit 3\" INT; echo ready; sleep 1000 & wait' >pipe & \
             child=$!; {{ read line; echo $line; kill -INT $child; cat; }} <pipe; wait $child"
        ),
    );
    plan.option("--package", "socat");
    plan.check("terminal", 60, format!("linux='{linux}'\n{ON_A_TERMINAL}"));
    plan.check("panic", 60, format!("{linux} -- sh -c 'echo c >/proc/sysrq-trigger'"));
    plan.check(
        "unreachable",
        60,
        format!("mkdir none; {viridian} linux --kernel /kernel/vmlinuz --modules none -- true"),
    );
});

#[test]
fn a_command_ends_with_its_exit_code_and_its_streams_stay_apart() {
    BATCH.outcome("code", |outcome| {
        assert_eq!(outcome.code, Some(7), "{outcome}");
        assert_eq!((outcome.text(), outcome.errors()), ("input\n".into(), "err\n".into()), "nothing else is printed");
    });
}

#[test]
fn lsvmbus_shows_the_bus() {
    BATCH.outcome("bus", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        for device in ["Operating system shutdown", "Time Synchronization", "Heartbeat"] {
            assert!(outcome.text().contains(device), "{outcome}");
        }
    });
}

#[test]
fn a_command_that_is_not_there_is_127() {
    BATCH.outcome("missing", |outcome| {
        assert_eq!(outcome.code, Some(127), "{outcome}");
        assert!(outcome.errors().contains("no-such-command: the guest has no such command"), "{outcome}");
    });
}

#[test]
fn a_command_gets_files_variables_and_a_directory() {
    BATCH.outcome("files", |outcome| {
        assert_eq!((outcome.code, outcome.text()), (Some(0), "/opt\nfrom the host\nvalue\n".into()), "{outcome}");
    });
}

#[test]
fn a_shared_directory_is_read_and_does_not_change() {
    BATCH.outcome("share", |outcome| {
        let text = outcome.text();
        let (sum, seen) = text.split_once('\n').expect("the host's checksum");
        let expected = format!("/host\nlink\nout\nrandom\nsub\ncontent\n{sum}\nelsewhere\nrefused\ncode 0\n");
        assert_eq!(seen, expected, "{outcome}");
        assert!(outcome.errors().contains("Read-only file system"), "{outcome}");
    });
}

#[test]
fn a_share_that_is_writable_changes_on_the_host() {
    BATCH.outcome("share_rw", |outcome| {
        let numbers = "dea9193b768319cbb4ff1a137ac03113  -";
        let expected = format!("two\nold\nnew\n{numbers}\n3\ncode 0\nold\nnew\n{numbers}\n644\n700\ncopy\nmade\n");
        assert_eq!(outcome.text(), expected, "{outcome}");
    });
}

#[test]
fn a_long_output_arrives_completely() {
    BATCH.run(&["output", "expected"]);
    let mut expected = String::new();
    BATCH.outcome("expected", |outcome| expected = outcome.text());
    BATCH.outcome("output", |outcome| assert_eq!(outcome.text(), expected, "{outcome}"));
}

#[test]
fn an_interrupt_reaches_the_command() {
    BATCH.outcome("interrupt", |outcome| {
        assert_eq!((outcome.code, outcome.text()), (Some(3), "ready\ncaught\n".into()), "{outcome}");
    });
}

#[test]
fn a_terminals_size_and_keys_reach_the_command_and_the_terminal_is_left_as_it_was() {
    BATCH.outcome("terminal", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        let text = outcome.text().replace('\r', "");
        // The guest's terminal shows the key, too.
        assert_eq!(text, "33 44\nready\n40 100\n^Ccaught\ncode 5\n", "{outcome}");
    });
}

#[test]
fn the_messages_of_a_kernel_that_panics_are_shown() {
    BATCH.outcome("panic", |outcome| {
        assert!(outcome.code.is_some_and(|code| (100..=102).contains(&code)), "{outcome}");
        assert!(outcome.errors().contains("sysrq triggered crash"), "{outcome}");
        assert!(outcome.errors().contains("the guest has gone before the command ended"), "{outcome}");
    });
}

#[test]
fn a_folder_without_the_modules_is_named() {
    BATCH.outcome("unreachable", |outcome| {
        assert_eq!(outcome.code, Some(2), "{outcome}");
        assert!(outcome.errors().contains("none has no module hv_vmbus"), "{outcome}");
    });
}
