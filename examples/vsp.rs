//! A VMBus device of your own, and the driver for it in the guest.
//!
//! ```text
//! cargo run --example vsp
//! ```
//!
//! The device answers each packet with the same text in capitals. Its driver is the guest image `guest-images/shout`: 60 lines of C.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use viridian::vmbus::Guid;
use viridian::vmbus::vsp::{Channel, Handler, NewPacket, Offer, ServiceError, Vsp};
use viridian::{Builder, End};

/// The interface that the driver looks for.
const INTERFACE: Guid = Guid::new(0x73686f75_0000_0000_0000_000000000000);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 256;

/// The device. It makes a handler each time that the guest opens its channel.
struct Shout;

impl Vsp for Shout {
    fn offer(&self) -> Offer {
        Offer::new(INTERFACE, Guid::new(1))
    }

    fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Ok(Box::new(Shouting { buffer: Vec::new() }))
    }
}

/// Serves the open channel, on a thread of the channel's own.
struct Shouting {
    buffer: Vec<u8>,
}

impl Handler for Shouting {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        channel.each_packet(&mut self.buffer, ANSWER_MAX, |outgoing, packet| {
            // The payload is a copy: the guest cannot change it any more. It is padded to a multiple of eight bytes.
            let text = packet.payload.split(|byte| *byte == 0).next().unwrap_or_default();
            if text.len() > ANSWER_MAX {
                return Err(ServiceError::Protocol(format!("a text of {} bytes is too long", text.len())));
            }
            let answer = text.to_ascii_uppercase();
            Ok(outgoing.write(&NewPacket::completion(packet.header.transaction_id, &[&answer]))?)
        })
    }
}

/// Runs the guest with the device, and prints what it prints.
pub fn main() -> Result<(), Box<dyn Error>> {
    let machine = Builder::new()
        .kernel(Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("shout"))
        .device(|| Shout)
        .capture_console()
        .end_on_failure()
        .timeout(Duration::from_secs(600))
        .start()?;
    let console = machine.console().ok_or("the console is captured")?.clone();
    let end = machine.wait();
    let output = console.take();
    std::io::stdout().write_all(&output)?;
    match end {
        End::PoweredOff if String::from_utf8_lossy(&output).contains("hello -> HELLO") => Ok(()),
        end => Err(format!("the guest did not get its answer: {end}").into()),
    }
}
