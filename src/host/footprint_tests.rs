use super::*;
use clap::{Arg, Command};

#[test]
fn only_unmodified_read_only_mappings_of_files_are_released() {
    let released = |header: &str, anonymous: &str| -> Vec<_> {
        let text = format!("{header}\nSize:  8 kB\nRss:  4 kB\nAnonymous:    {anonymous} kB\n");
        unmodified_files(text.as_bytes()).into_iter().map(|range| (range.start, range.end)).collect()
    };
    let text = "7f1000-7f3000 r-xp 00028000 fd:00 6045     /opt/a vmm";
    assert_eq!(released(text, "0"), [(0x7f_1000, 0x7f_3000)]);
    assert_eq!(
        released("7f1000-7f3000 r--p 00028000 fd:00 6045     /usr/lib/libc.so.6", "0"),
        [(0x7f_1000, 0x7f_3000)]
    );
    assert_eq!(released(text, "4"), [], "a page with a breakpoint");
    for other in [
        "7f1000-7f3000 rwxp 00028000 fd:00 6045     /opt/a vmm",
        "7f1000-7f3000 r--s 00028000 fd:00 6045     /opt/a vmm",
        "7f1000-7f3000 r-xp 00000000 00:00 0",
        "7f1000-7f3000 r-xp 00000000 00:00 0     [vdso]",
        "",
    ] {
        assert_eq!(released(other, "0"), [], "{other}");
    }
    let two = format!("{text}\nAnonymous: 4 kB\n{text}\nAnonymous: 0 kB\nAnonymous: 0 kB\n");
    assert_eq!(unmodified_files(two.as_bytes()).len(), 1, "each mapping by its own pages");
}

#[test]
fn releasing_start_up_pages_reduces_resident_memory() {
    let mappings = fs::read("/proc/self/smaps").unwrap();
    let of_program = of_program();
    // Resident memory of the program and its libraries that is never written, in KiB.
    let resident = || -> usize {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines();
        let mut sum = 0;
        while let Some(line) = lines.next() {
            if unwritable_file(line.as_bytes()).filter(&of_program).is_some() {
                let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
                sum += size.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
            }
        }
        sum
    };
    // If this test runs alone, little of the program is in memory yet, so load all of it first.
    for Range { start, end } in unmodified_files(&mappings).into_iter().filter(&of_program) {
        // SAFETY: the range is a readable mapping of a file; populating it changes no byte.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_POPULATE_READ) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
    let mut command = Command::new("test").arg(Arg::new("kernel").long("kernel").help("a kernel"));
    assert!(command.render_long_help().to_string().contains("--kernel"));
    let before = resident();
    forget_start_up();
    let after = resident();
    // Other tests load what they use of it again meanwhile.
    assert!(after < before, "{after} of {before} KiB");
}
