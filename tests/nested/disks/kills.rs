//! A killed machine loses nothing that was reported to its guest as written to the disk.

use super::guest::{self, NEED, WITH_DATA, text};
use crate::common::nested::{Plan, times};

/// Kills a machine a moment after its guest has begun, then checks the content of its disk, `$disk`.
///
/// A qcow2 image may have leaked clusters, for which `qemu-img check` exits with 3, and no other errors. The file system is
/// created for each kill. Mounting it replays its journal. Then it must be clean, and every record that the guest reported must
/// be there.
const KILL: &str = r#"
    cp /empty.${disk#disk.} $disk
    : >log
    RUN </dev/null >log 2>&1 & vmm=$!
    until grep -q 'durable: 3' log; do sleep 0.1; kill -0 $vmm || { cat log; exit 9; }; done
    usleep $(($(od -An -N2 -tu2 /dev/urandom) * 30))
    kill -KILL $vmm
    wait $vmm
    last=$(sed -n 's/^durable: \([0-9]*\)\r$/\1/p' log | tail -n 1)
    if test $disk = disk.qcow2; then
        qemu-img check -q $disk
        case $? in 0 | 3) ;; *) qemu-img check $disk; exit 1 ;; esac
        qemu-img convert -O raw $disk disk.img
    fi
    mkdir -p mnt
    mount -o loop disk.img mnt || exit
    test "$(head -n $last mnt/all)" = "$(seq $last | sed 's/^/record /')" || { echo "records are lost of $last"; cat mnt/all; exit 1; }
    for number in $(seq $((last > 19 ? last - 19 : 1)) $last); do
        test "$(cat mnt/$number)" = "record $number" || { echo "record $number is lost of $last"; exit 1; }
    done
    umount mnt
    /sbin/e2fsck -f -n disk.img || exit
    echo "all $last records are there ($disk)"
"#;

pub fn plan(plan: &mut Plan, engine: &str) {
    let guest = guest::in_memory();
    let empty = guest.join(format!("empty-{engine}.img"));
    let _ = std::fs::remove_file(&empty);
    guest::done("truncate", &["-s", "16M", text(&empty)]);
    guest::done("/sbin/mke2fs", &["-q", "-t", "ext4", text(&empty)]);
    let qcow2 = empty.with_extension("qcow2");
    guest::done(NEED, &["qemu-img:qemu-utils"]);
    guest::done("qemu-img", &["convert", "-O", "qcow2", text(&empty), text(&qcow2)]);
    plan.file(&format!("{}:/empty.img", empty.display()));
    plan.file(&format!("{}:/empty.qcow2", qcow2.display()));
    plan.file("/usr/bin/qemu-img");
    plan.option("--package", "e2fsprogs");
    plan.option("--kernel-module", "loop");
    let run = guest::run(engine, guest, "run=keep-records", "--disk $disk");
    let kill = KILL.replace("RUN", &run);
    let count = times(1);
    let both = format!("for disk in disk.img disk.qcow2; do {kill}\ndone");
    plan.check("kills", 180 * count, format!("for time in $(seq {count}); do {both}; done; rm disk.img disk.qcow2"));
}

#[test]
fn nothing_that_was_flushed_is_lost_when_the_process_is_killed() {
    WITH_DATA.outcomes("kills", |outcome| {
        assert_eq!(outcome.code, Some(0), "{outcome}");
        for disk in ["disk.img", "disk.qcow2"] {
            let good = format!("records are there ({disk})");
            assert_eq!(outcome.text().matches(&good).count(), times(1) as usize, "{outcome}");
        }
    });
}
