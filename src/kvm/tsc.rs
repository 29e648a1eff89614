//! The host's time stamp counter.

/// Returns its value now.
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and Linux lets user space use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Returns `true` if it ticks at one rate, in step on all processors: whether Linux itself keeps time by it.
pub fn is_reliable() -> bool {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.is_ok_and(|source| source.trim() == "tsc")
}
