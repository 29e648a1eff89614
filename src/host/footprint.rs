//! The memory of the process apart from its guests.

use std::fs;
use std::ops::Range;

/// Maximum number of heaps: that of the first thread, and one for the others.
#[cfg(target_env = "gnu")]
const HEAPS: i32 = 2;

/// Size of a page, in bytes.
const PAGE: usize = 4096;

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

/// Releases pages of programs and libraries that only start-up has used; pages that are needed again are read from the page
/// cache. To be called when the machine runs: otherwise half of a small machine's resident memory would be the parsing
/// of options.
pub fn forget_start_up() {
    let Ok(mappings) = fs::read("/proc/self/smaps") else { return };
    for Range { start, end } in unmodified_files(&mappings).into_iter().filter(of_program()) {
        // SAFETY: this is a private mapping of a file without write permission, and none of its pages differs from the
        // file: nothing is lost, since pages that are accessed again are read again. It belongs to a loaded program or
        // library, so no other mapping takes its place meanwhile.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Returns a function that returns `true` for addresses of the program and its libraries that are not loaded to be written.
fn of_program() -> impl Fn(&Range<usize>) -> bool {
    let loaded = loaded();
    move |range| loaded.iter().any(|all| all.start <= range.start && range.end <= all.end)
}

/// Returns the addresses of the segments of the program and its libraries that are not loaded to be written.
fn loaded() -> Vec<Range<usize>> {
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, ranges: *mut libc::c_void) -> libc::c_int {
        // SAFETY: dl_iterate_phdr(3) passes an object's description, valid during the call, and the vector below.
        let (info, ranges) = unsafe { (&*info, &mut *ranges.cast::<Vec<Range<usize>>>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the object has this many program headers there.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let constant = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
        ranges.extend(headers.iter().filter(constant).map(|header| {
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
            let end = start.wrapping_add(header.p_memsz as usize);
            start & !(PAGE - 1)..end.wrapping_add(PAGE - 1) & !(PAGE - 1)
        }));
        0
    }
    let mut ranges: Vec<Range<usize>> = Vec::new();
    // SAFETY: the function accepts what it is called with, and does not panic.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut ranges).cast()) };
    ranges
}

/// Returns the addresses of the private mappings of files in the text of /proc/PID/smaps (proc_pid_smaps(5)) that cannot be
/// written and have not been: neither by the loader's relocations nor by a debugger's breakpoints.
fn unmodified_files(mappings: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut file = None;
    for line in mappings.split(|byte| *byte == b'\n') {
        if let Some(pages) = line.strip_prefix(b"Anonymous:") {
            ranges.extend(file.take().filter(|_| pages.trim_ascii() == b"0 kB"));
        } else if line.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            file = unwritable_file(line);
        }
    }
    ranges
}

/// Returns the addresses of a private mapping of a file that cannot be written, if the line describes one.
fn unwritable_file(line: &[u8]) -> Option<Range<usize>> {
    let path = line.iter().position(|byte| *byte == b'/')?;
    let mut words = str::from_utf8(&line[..path]).ok()?.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let parse = |address| usize::from_str_radix(address, 16).ok();
    matches!(words.next()?, "r-xp" | "r--p").then_some(parse(start)?..parse(end)?)
}

#[cfg(all(test, feature = "cli"))]
#[path = "footprint_tests.rs"]
mod tests;
