use super::*;
use clap::{Arg, Command};

#[test]
fn only_executable_pages_of_the_program_file_are_released() {
    let program = Path::new("/opt/a vmm");
    let text = |line: &str| text(line.as_bytes(), program);
    assert_eq!(text("7f1000-7f3000 r-xp 00028000 fd:00 6045     /opt/a vmm"), Some(0x7f_1000..0x7f_3000));
    for other in [
        "7f1000-7f3000 r--p 00028000 fd:00 6045     /opt/a vmm",
        "7f1000-7f3000 rwxp 00028000 fd:00 6045     /opt/a vmm",
        "7f1000-7f3000 r-xp 00028000 fd:00 6045     /usr/lib/libc.so.6",
        "7f1000-7f3000 r-xp 00000000 00:00 0",
        "7f1000-7f3000 r-xp 00000000 00:00 0     [vdso]",
        "",
    ] {
        assert_eq!(text(other), None, "{other}");
    }
}

#[test]
fn releasing_start_up_pages_reduces_resident_memory() {
    let program = fs::read_link("/proc/self/exe").unwrap();
    // Resident memory of the program's text, in KiB.
    let resident = || -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| text(line.as_bytes(), &program).is_none());
        let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        size.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // If this test runs alone, little of the program is in memory yet, so load all of it first.
    let maps = fs::read("/proc/self/maps").unwrap();
    for Range { start, end } in maps.split(|byte| *byte == b'\n').filter_map(|line| text(line, &program)) {
        // SAFETY: the range is a readable mapping of the program's text; populating it changes no byte.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_POPULATE_READ) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
    let mut command = Command::new("test").arg(Arg::new("kernel").long("kernel").help("a kernel"));
    assert!(command.render_long_help().to_string().contains("--kernel"));
    let before = resident();
    forget_start_up();
    let after = resident();
    assert!(after < before, "{after} of {before} KiB");
}
