//! A VMBus device of your own, and the driver for it in the guest.
//!
//! ```text
//! cargo run --example vsp
//! ```
//!
//! The device answers each packet with the same text in capitals. Its driver is the guest image `guest-images/shout`: 60 lines of C.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use viridian::vmbus::Guid;
use viridian::vmbus::vsp::{
    Channel, CommandError, Handler, NewPacket, Offer, Requested, Requests, ServiceError, Value, Vsp, json,
};
use viridian::{Builder, End};

/// The interface that the driver looks for.
const INTERFACE: Guid = Guid::new(0x73686f75_0000_0000_0000_000000000000);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 256;
/// Before the device shouts, it takes a breath. Pauses of the machine do not count.
const BREATH: Duration = Duration::from_millis(20);

/// The device. It makes a handler each time that the guest opens its channel.
struct Shout {
    answered: Arc<AtomicU64>,
    /// The ends of answers that the host wants.
    endings: Requests<String>,
}

impl Vsp for Shout {
    fn offer(&self) -> Offer {
        Offer::new(INTERFACE, Guid::new(1))
    }

    fn name(&self) -> String {
        "shout".into()
    }

    fn inspect(&self) -> Value {
        json!({ "answered": self.answered.load(Ordering::Relaxed) })
    }

    /// `ending TEXT`: ends all answers with the text, as soon as the guest uses the device.
    fn command(&mut self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        match (name, arguments.as_str()) {
            ("ending", Some(text)) if text.len() <= 8 => {
                let sent = self.endings.send(text.to_owned());
                sent.map(|()| Value::Null).map_err(|unsent| CommandError::Failed(unsent.to_string()))
            }
            ("ending", _) => Err(CommandError::Arguments("ending takes a text of up to 8 bytes".into())),
            _ => Err(CommandError::Unknown { name: name.into(), known: "the device takes `ending`".into() }),
        }
    }

    fn reset(&mut self) {
        self.answered.store(0, Ordering::Relaxed);
    }

    fn open(&mut self, channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Ok(Box::new(Shouting {
            buffer: Vec::new(),
            waiting: VecDeque::new(),
            ending: String::new(),
            endings: self.endings.connect(channel.port()),
            answered: self.answered.clone(),
        }))
    }
}

/// Serves the open channel, on a thread of the channel's own.
struct Shouting {
    buffer: Vec<u8>,
    /// The answers that are to come: when, to which packet, and the text.
    waiting: VecDeque<(Duration, u64, Vec<u8>)>,
    ending: String,
    endings: Requested<String>,
    answered: Arc<AtomicU64>,
}

impl Handler for Shouting {
    fn service(&mut self, channel: &mut Channel) -> Result<(), ServiceError> {
        let now = channel.port().time();
        while let Some(ending) = self.endings.take() {
            self.ending = ending;
        }
        let Self { buffer, waiting, .. } = self;
        channel.each_packet(buffer, ANSWER_MAX, |_, packet| {
            // The payload is a copy: the guest cannot change it any more. It is padded to a multiple of eight bytes.
            let text = packet.payload.split(|byte| *byte == 0).next().unwrap_or_default();
            if text.len() > ANSWER_MAX - 8 || waiting.len() > 100 {
                return Err(ServiceError::Protocol("the guest sends too much".into()));
            }
            waiting.push_back((now + BREATH, packet.header.transaction_id, text.to_ascii_uppercase()));
            Ok(())
        })?;
        while let Some((_, packet, text)) = self.waiting.pop_front_if(|(due, ..)| *due <= now) {
            let answer = [&*text, self.ending.as_bytes()];
            channel.rings().1.write(&NewPacket::completion(packet, &answer))?;
            channel.publish();
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        // The timer calls this function again.
        channel.port().wake_after(self.waiting.front().map(|(due, ..)| *due - now));
        Ok(())
    }
}

/// Runs the guest with the device, and prints what it prints.
pub fn main() -> Result<(), Box<dyn Error>> {
    let machine = Builder::new()
        .kernel(Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("shout"))
        .device(|| Shout { answered: Arc::default(), endings: Requests::new(4) })
        .capture_console()
        .end_on_failure()
        .timeout(Duration::from_secs(600))
        .start()?;
    let console = machine.console().ok_or("the console is captured")?.clone();
    // The guest asks once. The command waits for nobody, so it may come too early, when no driver uses the device.
    match machine.command("shout", "ending", &"!".into()) {
        Ok(_) => println!("the next answers end with an exclamation mark"),
        Err(error) => println!("{error}"),
    }
    let mut output = console.wait_for("hello -> HELLO", Duration::from_secs(600))?;
    println!("the device says {}", machine.inspect()["devices"]["shout"]);
    let end = machine.wait();
    output.extend(console.take());
    std::io::stdout().write_all(&output)?;
    match end {
        End::PoweredOff => Ok(()),
        end => Err(format!("the guest did not get its answers: {end}").into()),
    }
}
