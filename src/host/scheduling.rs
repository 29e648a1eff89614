//! The host's scheduling policy for the calling thread.

/// Makes the thread wait for its turn when it is woken, instead of preempting the running thread, or ends that. On an
/// idle CPU it runs at once in either case. Returns `false` if the host refuses.
pub(crate) fn set_patient(patient: bool) -> bool {
    let policy = if patient { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
    // SAFETY: an all-zero sched_param is valid, and has the priority that both policies require.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sched_param, which the kernel only reads; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) == 0 }
}
