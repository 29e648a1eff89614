//! What the process keeps in memory beside its guests.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Gives back the pages of the program's text that start-up alone has touched; those that are needed again come back from the
/// page cache by themselves. For when the machine runs: half of a small one's resident memory would be the parsing of options.
///
/// Not under a debugger, whose breakpoints are changes to the text.
pub fn forget_start_up() {
    let traced = |status: String| !status.lines().any(|line| line == "TracerPid:\t0");
    if fs::read_to_string("/proc/self/status").map_or(true, traced) {
        return;
    }
    let (Ok(program), Ok(maps)) = (fs::read_link("/proc/self/exe"), fs::read("/proc/self/maps")) else { return };
    for Range { start, end } in maps.split(|byte| *byte == b'\n').filter_map(|line| text(line, &program)) {
        // SAFETY: this is a private mapping of the program's own file without leave to write, so its pages are the file's and
        // nothing is lost: what is touched again is read again. It is there as long as the process is.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The addresses of a mapping of the program's text, if a line of /proc/self/maps (proc_pid_maps(5)) is of one.
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
