//! The memory of the process apart from its guests.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Maximum number of heaps: that of the first thread, and one for the others.
#[cfg(target_env = "gnu")]
const HEAPS: i32 = 2;

/// Limits the number of the allocator's heaps. glibc makes up to eight for each processor, one for each thread that begins, and
/// each costs system calls, page faults and 64 MiB of addresses. Threads of a machine allocate little. To be called before the
/// first thread is created.
pub fn limit_heaps() {
    // SAFETY: the parameter is one of mallopt(3), which changes nothing but how later allocations are made.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS)
    };
}

/// Releases pages of the program's text that only start-up has used; pages that are needed again are read from the page
/// cache. To be called when the machine runs: otherwise half of a small machine's resident memory would be the parsing
/// of options.
///
/// Do not use it under a debugger, whose breakpoints modify the text.
pub fn forget_start_up() {
    let traced = |status: String| !status.lines().any(|line| line == "TracerPid:\t0");
    if fs::read_to_string("/proc/self/status").map_or(true, traced) {
        return;
    }
    let (Ok(program), Ok(maps)) = (fs::read_link("/proc/self/exe"), fs::read("/proc/self/maps")) else { return };
    for Range { start, end } in maps.split(|byte| *byte == b'\n').filter_map(|line| text(line, &program)) {
        // SAFETY: this is a private mapping of the program's own file without write permission. Its pages are those of
        // the file, so nothing is lost: pages that are accessed again are read again. The mapping exists as long as the
        // process.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Returns the addresses of a mapping of the program's text, if the line of /proc/self/maps (proc_pid_maps(5))
/// describes one.
fn text(line: &[u8], program: &Path) -> Option<Range<usize>> {
    let path = line.iter().position(|byte| *byte == b'/')?;
    let mut words = str::from_utf8(&line[..path]).ok()?.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let parse = |address| usize::from_str_radix(address, 16).ok();
    let is_text = words.next()? == "r-xp" && OsStr::from_bytes(&line[path..]) == program;
    is_text.then_some(parse(start)?..parse(end)?)
}

#[cfg(all(test, feature = "cli"))]
#[path = "footprint_tests.rs"]
mod tests;
