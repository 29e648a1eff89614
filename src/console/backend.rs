//! The interface from a console's thread to the console's destination.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The result of reading a backend's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Number of bytes for the guest; 0 if there are none now, or never will be.
    Bytes(usize),
    /// The user asks to end the machine.
    Quit,
}

/// The destination of a console. No call may block.
pub(super) trait Backend: Send {
    /// Returns the descriptor to poll for input, as long as there can be any.
    fn source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Reads input into `buffer`.
    fn read(&mut self, _buffer: &mut [u8]) -> Typed {
        Typed::Bytes(0)
    }

    /// Returns the descriptor to poll for room for output, or `None` while there is no reader.
    fn sink(&self) -> Option<BorrowedFd<'_>>;

    /// Writes some of `bytes` and returns their number. `WouldBlock` means that the sink must be polled.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Returns `true` if some of the written output is held back until more arrives.
    fn holds(&self) -> bool {
        false
    }

    /// Writes the output that is held back, because no more has arrived for a while, or none will. `WouldBlock` as for
    /// [`write`](Self::write).
    fn let_go(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns `true` if readers come and go. Then the sink is polled for hang-up even if there is nothing to write.
    fn has_visitors(&self) -> bool {
        false
    }

    /// Handles a hang-up of the sink.
    fn hang_up(&mut self) {}

    /// Returns the descriptor to poll for a new reader, while there is none.
    fn door(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Handles a possible new reader.
    fn open_door(&mut self) {}

    /// Returns the descriptor to poll for events that concern neither input nor output.
    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Handles such an event. May stop the process for a while.
    fn heed(&mut self) {}

    /// Checks for changes that no descriptor reports. Returns the maximum time until the next check.
    fn glance(&mut self) -> Option<Duration> {
        None
    }

    /// Returns the destination's name for an error about writing to it, and a remedy.
    fn explain(&self, error: &io::Error) -> (String, &'static str);
}
