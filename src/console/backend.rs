//! What a console's thread asks of the place where the console goes.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What came of reading a backend's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// This many bytes for the guest; none if nothing is there now, or ever will be.
    Bytes(usize),
    /// The user asks for the machine's end.
    Quit,
}

/// Where a console goes. No call may block.
pub(super) trait Backend: Send {
    /// What to poll for input, as long as some may come.
    fn source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Reads input into `buffer`.
    fn read(&mut self, _buffer: &mut [u8]) -> Typed {
        Typed::Bytes(0)
    }

    /// What to poll for room for output. Returns `None` while nobody is there to read it.
    fn sink(&self) -> Option<BorrowedFd<'_>>;

    /// Writes some of `bytes` and says how many; `WouldBlock` means that the sink is to be polled.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Returns `true` if some of what was written is held back until more comes.
    fn holds(&self) -> bool {
        false
    }

    /// Writes what is held back: nothing has come for a while, or nothing more will. `WouldBlock` as for [`write`](Self::write).
    fn let_go(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns `true` if readers come and go. If so the sink is polled for hang-up even when there is nothing to write.
    fn has_visitors(&self) -> bool {
        false
    }

    /// The sink has hung up.
    fn hang_up(&mut self) {}

    /// What to poll for somebody to come, while nobody is there.
    fn door(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Somebody may have come.
    fn open_door(&mut self) {}

    /// What to poll for news that concern neither input nor output.
    fn notices(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// There are news. May stop the process for a while.
    fn heed(&mut self) {}

    /// Looks at what no descriptor tells of; returns when to look again at the latest.
    fn glance(&mut self) -> Option<Duration> {
        None
    }

    /// Names the place in an error about writing to it, and says what to do about that error.
    fn explain(&self, error: &io::Error) -> (String, &'static str);
}
