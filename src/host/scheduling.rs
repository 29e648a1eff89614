//! The host's scheduling policy for the calling thread.

use std::io;

/// The nice value with the least weight: about a seventieth of an ordinary thread's.
const LOWEST: i32 = 19;
/// The shortest turn that Linux grants, in nanoseconds.
const SHORTEST_TURN: u64 = 100_000;

/// Makes the thread wait for its turn when it is woken, instead of preempting the running thread, or ends that. On an
/// idle CPU it runs at once in either case. Returns `false` if the host refuses.
pub(crate) fn set_patient(patient: bool) -> bool {
    let policy = if patient { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
    // SAFETY: an all-zero sched_param is valid, and has the priority that both policies require.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sched_param, which the kernel only reads; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) == 0 }
}

/// Sets the lowest priority for the thread: it has the lowest weight, preempts no thread when it is woken, and has the shortest
/// turns, so that another thread that is woken meanwhile hardly waits for it.
///
/// A policy for idle threads would give way at once, but is so weak that a request could time out on a busy host.
///
/// # Errors
/// Returns the host's error.
pub(crate) fn give_way() -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_BATCH as u32,
        sched_flags: 0,
        sched_nice: LOWEST,
        sched_priority: 0,
        // Before Linux 6.12, turns have the same length for all threads, and this is ignored.
        sched_runtime: SHORTEST_TURN,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer is to a live sched_attr of the stated size, which the kernel only reads; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_has_the_lowest_priority() {
        let nice = std::thread::spawn(|| {
            give_way().expect("any thread may lower its priority");
            rustix::process::getpriority_process(None).expect("a nice value")
        });
        assert_eq!(nice.join().expect("no panic"), LOWEST);
    }
}
