//! The host's time stamp counter.

/// Returns its current value.
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and Linux lets user space use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Returns `true` if the TSC ticks at a constant rate, synchronously on all processors: if Linux uses it as its clock
/// source.
pub fn is_reliable() -> bool {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.is_ok_and(|source| source.trim() == "tsc")
}
