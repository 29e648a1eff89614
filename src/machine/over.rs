//! The end of a machine, for those who wait for it.

use super::Shared;

/// Tells everybody who waits that the machine is gone, when it is dropped.
pub(super) struct Over<'a>(pub &'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        // How it ended has been told by now, if it ended as it should.
        self.0.console.get().inspect(|console| console.end("a thread of the machine panicked"));
        self.0.providers.finish();
        self.0.announcer.over();
        self.0.gate.finish();
        self.0.ended.signal();
    }
}
