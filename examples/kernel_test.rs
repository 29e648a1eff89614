//! The test of a kernel: boot it, wait for what it prints, type to it, and check how it ends.
//!
//! ```text
//! cargo run --example kernel_test
//! ```
//!
//! In a test of your own, `kernel` names your kernel: a Linux bzImage or vmlinux, or an ELF file for PVH or multiboot.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use viridian::{Builder, End};

/// Time limit of each wait. Only a broken kernel takes this long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Boots the kernel with this command line. Without `timeout`, a kernel that hangs would hang the test.
fn machine(command_line: &str) -> Builder {
    Builder::new()
        .kernel(Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("exits"))
        .cmdline(command_line)
        .memory(64 << 20)
        .cpus(2)
        .capture_console()
        .timeout(2 * PATIENCE)
}

/// A kernel that is talked to: `wait_for` fails at once if the machine ends, and its error has the last output.
fn it_answers_and_powers_off() -> Result<(), Box<dyn Error>> {
    let machine = machine("echo").start()?;
    let console = machine.console().ok_or("the console is captured")?;
    console.wait_for("echoing", PATIENCE)?;
    console.type_text("ping\n")?;
    console.wait_for("ping", PATIENCE)?;
    console.type_text("quit\n")?;
    match machine.wait() {
        End::PoweredOff => Ok(()),
        end => Err(end.to_string().into()),
    }
}

/// A kernel that reports its result by the exit port (0xf4).
fn it_reports_its_result() -> Result<(), Box<dyn Error>> {
    let end = machine("exit=3").start()?.wait();
    match end.exit_code() {
        3 => Ok(()),
        code => Err(format!("exit code {code}: {end}").into()),
    }
}

/// A kernel that dies: the end says where, with the names of an ELF kernel's symbols.
fn it_is_found_where_it_dies() -> Result<(), Box<dyn Error>> {
    match machine("triple").start()?.wait() {
        end @ End::TripleFault { vp: 0, .. } => {
            println!("  {end}");
            Ok(())
        }
        end => Err(end.to_string().into()),
    }
}

/// Runs the three tests.
pub fn main() -> Result<(), Box<dyn Error>> {
    for (name, test) in [
        ("it answers and powers off", it_answers_and_powers_off as fn() -> _),
        ("it reports its result", it_reports_its_result),
        ("it is found where it dies", it_is_found_where_it_dies),
    ] {
        println!("{name}");
        test()?;
    }
    Ok(())
}
