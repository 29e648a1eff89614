//! The mouse as a state machine.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use zerocopy::{FromBytes, IntoBytes};

use super::wire::{Header, MAX_COORDINATE, MessageType, ProtocolResponse, Report, VERSION, device_info};
use crate::vmbus::vsp::Offer;
use crate::vsp::pipe::provider::Protocol;
use crate::vsp::pipe::wire::{unwrap, wrap};
use crate::wire::guid::{Guid, interface};

/// Maximum number of reports that wait for the guest. Moves between two changes of buttons are one report.
const MAX_WAITING: usize = 256;

/// The buttons that a report has bits for.
const BUTTONS: u8 = 0x1f;

/// The state of the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The guest has not opened the channel.
    #[default]
    Closed,
    /// The guest has not asked for a version that exists.
    Negotiating,
    /// The guest has not confirmed the description of the device.
    Described,
    /// The mouse can be used.
    Ready,
}

/// The status of the mouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The state of the channel.
    pub state: State,
    /// Number of reports that were sent.
    pub sent: u64,
    /// Number of reports that wait for the guest.
    pub waiting: usize,
    /// Number of reports that found no room.
    pub dropped: u64,
    /// Number of messages of the guest that mean nothing.
    pub unknown: u64,
}

/// The reason why the mouse cannot be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MouseError {
    /// The guest does not use the mouse.
    #[error("the guest does not use the mouse: it has no driver for it, or has not loaded it yet")]
    NotReady,
    /// The guest reads too slowly.
    #[error("the guest does not read its mouse: too many reports wait")]
    Full,
}

/// The mouse.
#[derive(Debug, Default)]
pub struct Mouse {
    state: State,
    /// An answer that is due: the version that the guest asked for.
    answer: Option<u32>,
    describe: bool,
    waiting: VecDeque<Report>,
    /// The last report that was made.
    last: Option<Report>,
    sent: u64,
    dropped: u64,
    unknown: u64,
}

/// Returns the coordinate of a report for pixel `at` of `size`.
pub fn coordinate(at: u32, size: u32) -> u16 {
    let last = u64::from(size.saturating_sub(1)).max(1);
    // Rounded up, so that a guest that rounds down finds the pixel again.
    let scaled = (u64::from(at).min(last) * u64::from(MAX_COORDINATE)).div_ceil(last);
    scaled as u16
}

impl Mouse {
    /// Returns the status.
    pub fn facts(&self) -> Facts {
        let Self { state, sent, dropped, unknown, .. } = *self;
        Facts { state, sent, waiting: self.waiting.len(), dropped, unknown }
    }

    /// Reports where the pointer is, which buttons are down, and how far the wheel was turned.
    ///
    /// # Errors
    /// Returns an error if the guest does not use the mouse, or does not read it.
    pub fn report(&mut self, x: u16, y: u16, buttons: u8, wheel: i8) -> Result<(), MouseError> {
        self.turn(x, y, buttons, (wheel, 0))
    }

    /// Reports the same, with the turns of the wheel, and of a second one to the right.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    pub fn turn(&mut self, x: u16, y: u16, buttons: u8, (wheel, tilt): (i8, i8)) -> Result<(), MouseError> {
        if self.state != State::Ready {
            return Err(MouseError::NotReady);
        }
        let (x, y) = (x.min(MAX_COORDINATE), y.min(MAX_COORDINATE));
        let (buttons, wheel, tilt) = (buttons & BUTTONS, wheel.max(-i8::MAX), tilt.max(-i8::MAX));
        let report = Report { buttons, x: x.into(), y: y.into(), wheel, tilt };
        let turns = (wheel, tilt) != (0, 0);
        if self.last == Some(report) && !turns {
            return Ok(());
        }
        let is_move = |report: &Report| (report.wheel, report.tilt) == (0, 0) && report.buttons == buttons;
        // There is always room to release the last button: pressing it found room.
        let is_release = report.buttons == 0 && self.last.is_some_and(|last| last.buttons != 0);
        // A move that waits is replaced. The one before it has the same buttons, so nobody sees a button elsewhere.
        let waiting = self.waiting.len();
        if !turns && waiting >= 2 && self.waiting.range(waiting - 2..).all(is_move) {
            self.waiting.pop_back();
        } else if waiting >= MAX_WAITING && !is_release {
            self.dropped += 1;
            return Err(MouseError::Full);
        }
        self.waiting.push_back(report);
        self.last = Some(Report { wheel: 0, tilt: 0, ..report });
        Ok(())
    }

    /// Checks that the guest uses the mouse, and that there is room for that many reports.
    ///
    /// # Errors
    /// Returns an error if not.
    pub fn has_room(&self, count: usize) -> Result<(), MouseError> {
        match self.state {
            State::Ready if self.waiting.len() + count > MAX_WAITING => Err(MouseError::Full),
            State::Ready => Ok(()),
            _ => Err(MouseError::NotReady),
        }
    }

    fn start_over(&mut self, state: State) {
        let Self { sent, dropped, unknown, .. } = *self;
        *self = Self { state, sent, dropped, unknown, ..Self::default() };
    }
}

fn message(message_type: MessageType, body: &[u8]) -> Vec<u8> {
    wrap(&[Header { message_type, length: body.len() as u32 }.as_bytes(), body])
}

impl Protocol for Mouse {
    const NAME: &'static str = "the mouse";
    const MAX_PACKET: usize = 160;

    fn offer(&self) -> Offer {
        Offer::pipe(interface::MOUSE, Guid::new(0x58f75a6d_d949_4320_99e1_a2a2576d581c))
    }

    fn opened(&mut self) {
        self.start_over(State::Negotiating);
    }

    fn closed(&mut self) {
        self.start_over(State::Closed);
    }

    fn receive(&mut self, payload: &[u8]) -> Result<(), String> {
        let received = unwrap(payload).map_err(|error| error.to_string())?;
        let short = || format!("a message to the mouse has only {} bytes", received.len());
        let (header, body) = Header::read_from_prefix(received).map_err(|_| short())?;
        match (header.message_type, self.state) {
            (MessageType::PROTOCOL_REQUEST, _) => {
                let (version, _) = u32::read_from_prefix(body).map_err(|_| short())?;
                self.start_over(State::Negotiating);
                if version == VERSION {
                    self.state = State::Described;
                    self.describe = true;
                }
                self.answer = Some(version);
            }
            (MessageType::INITIAL_DEVICE_INFO_ACK, State::Described) if !self.describe => self.state = State::Ready,
            _ => self.unknown += 1,
        }
        Ok(())
    }

    fn next(&mut self, _now: Duration) -> Option<Vec<u8>> {
        if let Some(version) = self.answer.take() {
            let response = ProtocolResponse { version: version.into(), approved: (version == VERSION).into() };
            return Some(message(MessageType::PROTOCOL_RESPONSE, response.as_bytes()));
        }
        if std::mem::take(&mut self.describe) {
            return Some(message(MessageType::INITIAL_DEVICE_INFO, &device_info()));
        }
        let report = self.waiting.pop_front()?;
        self.sent += 1;
        Some(message(MessageType::INPUT_REPORT, report.as_bytes()))
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
