//! How the host's scheduler treats the calling thread.

/// Has the thread wait for its turn when it is woken, rather than push aside what runs on its processor; or ends that. On a
/// processor that idles it runs at once all the same. False if the host refuses.
pub(crate) fn set_patient(patient: bool) -> bool {
    let policy = if patient { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
    // SAFETY: an all-zero sched_param is a valid one, and the priority that both policies want.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sched_param, which the kernel only reads; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) == 0 }
}
