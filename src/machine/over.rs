//! The end of a machine, for those who wait for it.

use super::Shared;

/// When dropped, wakes everybody who waits for the end of the machine.
pub(super) struct Over<'a>(pub &'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        // Usually the console was already ended with the machine's end. This applies after a panic.
        self.0.console.get().inspect(|console| console.end("a thread of the machine panicked"));
        self.0.providers.finish();
        self.0.announcer.over();
        self.0.gate.finish();
        self.0.ended.signal();
    }
}
