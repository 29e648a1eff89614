//! Calls code of others, and returns the message if it panics.
//!
//! The panic hook prints a panic's message before it can be caught. A guest that makes such code panic repeatedly could
//! fill the host's log. So the hook sees only as many of the panics that are caught here as
//! [`limited`](crate::host::limited) allows.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use log::Level;

use crate::host::limited::Site;

thread_local! {
    /// Number of calls of [`caught`] in which this thread is.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The limit of the hook for the whole process.
static HOOK: Site = Site::new(Level::Error, module_path!());

/// Calls `code`.
///
/// # Errors
/// Returns the panic's message if it panics.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    limit_hook();
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(code)).map_err(message);
    DEPTH.set(DEPTH.get() - 1);
    result
}

/// Installs the limit in front of the present hook. A program that sets its own hook later gets all panics.
fn limit_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_caught = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false);
            if !is_caught || HOOK.allows_one_more() {
                next(panic);
            }
        }));
    });
}

fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "(no message)".to_owned(),
    };
    // A payload can be of any type, and can panic when it is dropped.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_becomes_its_message_whatever_its_payload_is() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
        assert_eq!(caught(|| panic!("number {}", 7)), Err::<(), _>("number 7".to_owned()));
        assert_eq!(caught(|| std::panic::panic_any(7)), Err::<(), _>("(no message)".to_owned()));
        assert_eq!(caught(|| std::panic::panic_any(Bomb)), Err::<(), _>("(no message)".to_owned()));
    }

    #[test]
    fn the_hook_prints_a_few_panics_of_those_that_are_caught() {
        let this = std::env::current_exe().unwrap();
        let name = "host::panics::tests::panics_again_and_again";
        let run =
            std::process::Command::new(this).args(["--ignored", "--exact", "--nocapture", name]).output().unwrap();
        let printed = |text: &str| String::from_utf8_lossy(&run.stderr).matches(text).count();
        assert!(run.status.success(), "{run:?}");
        assert_eq!(printed("again and again"), crate::host::limited::BURST as usize, "{run:?}");
        assert_eq!(printed("not caught here"), 1, "{run:?}");
    }

    #[test]
    #[ignore = "a part of the_hook_prints_a_few_panics_of_those_that_are_caught, in a process of its own"]
    fn panics_again_and_again() {
        for _ in 0..100 {
            assert!(caught(|| panic!("again and again")).is_err_and(|message: String| message.starts_with("again")));
        }
        std::thread::spawn(|| panic!("not caught here")).join().unwrap_err();
    }
}
