//! A script that attaches and detaches a disk and a network adapter while the guest runs.
//!
//! ```text
//! cargo run --example hot_plug
//! ```
//!
//! The guest image `guest-images/plug` prints what comes and goes. A stock Linux finds the same devices with its own drivers.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use viridian::machine::Capture;
use viridian::vsp::network::{Attachment, NetworkOptions};
use viridian::vsp::storage::DiskConfig;
use viridian::{Builder, End};

/// Time limit of each wait. Only a broken guest takes this long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until the guest prints the text, and prints what it printed.
fn expect(console: &Capture, text: &str) -> Result<(), Box<dyn Error>> {
    let output = console.wait_for(text, PATIENCE)?;
    Ok(std::io::stdout().write_all(&output)?)
}

/// Plugs and unplugs.
pub fn main() -> Result<(), Box<dyn Error>> {
    let machine = Builder::new()
        .kernel(Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("plug"))
        .capture_console()
        .timeout(4 * PATIENCE)
        .start()?;
    let console = machine.console().ok_or("the console is captured")?;
    expect(console, "watching")?;

    // Scratch space in memory; a path is a disk image: "disk.qcow2".
    let first = machine.disks().attach(&DiskConfig::of("memory:64M"))?;
    expect(console, "disk 0 came: 131072 blocks of 512 bytes\n")?;
    let second = machine.disks().attach(&DiskConfig::of("memory:1M"))?;
    expect(console, "disk 1 came: 2048 blocks of 512 bytes\n")?;
    for (place, text) in [(first, "disk 0 went\n"), (second, "disk 1 went\n")] {
        machine.disks().detach(place);
        expect(console, text)?;
    }

    // A network of its own for each adapter; Attachment::User has NAT and DHCP, without privileges.
    let adapter = machine.nics().attach(&NetworkOptions::new(Attachment::None))?;
    expect(console, " came\n")?;
    machine.nics().detach(adapter);
    expect(console, " went\n")?;

    console.type_text("\n")?;
    match machine.wait() {
        End::PoweredOff => Ok(()),
        end => Err(end.to_string().into()),
    }
}
