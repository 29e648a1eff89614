//! A hypercall of your own, and a watcher that sees each call that the guest makes.
//!
//! ```text
//! cargo run --example hypercall
//! ```
//!
//! The guest image `guest-images/call` makes one call with eight bytes of input, and prints its output.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use viridian::hyperv::HvStatus;
use viridian::hyperv::hypercall::CallCode;
use viridian::{Builder, End, Machine};

/// A code that the TLFS does not use.
const SQUARE_ROOT: CallCode = CallCode(0x7f00);

/// Makes the call in a guest. Returns what the guest printed, and the calls that the watcher saw.
fn call_with(value: u64) -> Result<(String, Vec<String>), Box<dyn Error>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let machine: Machine = {
        let seen = seen.clone();
        Builder::new()
            .kernel(Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("call"))
            .cmdline(format!("code={} value={value}", SQUARE_ROOT.0))
            .hypercalls(move |calls, _guest| {
                calls.simple(SQUARE_ROOT, "SquareRoot", None, |_call, number: u64| match number.isqrt() {
                    root if root * root == number => Ok(root),
                    _ => Err(HvStatus::INVALID_PARAMETER),
                });
                let seen = seen.clone();
                calls.watch(move |call| {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(call.to_string());
                });
            })
            .capture_console()
            .timeout(Duration::from_secs(600))
            .start()?
    };
    let console = machine.console().ok_or("the console is captured")?.clone();
    match machine.wait() {
        End::Exited(0) => {}
        end => return Err(end.to_string().into()),
    }
    let calls = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((String::from_utf8_lossy(&console.take()).into_owned(), calls))
}

/// Calls with a square, and with a number that is none.
pub fn main() -> Result<(), Box<dyn Error>> {
    for (value, expected) in [(144, "status 0, output 12"), (2, "status 5, output 0")] {
        let (output, calls) = call_with(value)?;
        println!("{value}: {}", output.trim_end());
        calls.iter().for_each(|call| println!("  seen: {call}"));
        if !output.contains(expected) {
            return Err(format!("the guest should have printed: {expected}").into());
        }
    }
    Ok(())
}
