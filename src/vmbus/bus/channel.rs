//! The thread of an open channel.

use std::sync::Arc;

use super::BusDevice;
use super::link::Link;
use super::port::{ChannelPort, WakeThread, Work};
use crate::host::panics::caught;
use crate::vmbus::connection::Opening;
use crate::vmbus::ids::ChannelId;
use crate::vmbus::vsp::{Channel, Handler, ServiceError};

/// The state of a channel's thread.
pub(super) struct ChannelThread {
    pub link: Arc<Link>,
    pub device: Arc<BusDevice>,
    pub port: Arc<ChannelPort>,
    pub subchannel_index: u16,
}

impl ChannelThread {
    /// Opens the channel, serves it until it must close, and closes it.
    pub fn run(self, opening: Opening) {
        let Self { link, port, .. } = &self;
        let id = opening.channel;
        port.enter();
        let gate = port.gate();
        let _member = gate.join(Box::new(WakeThread(port.clone())));
        if gate.is_pausing() {
            gate.pass();
        }
        match self.open(opening) {
            Ok((mut channel, handler)) => {
                link.opened(id, true);
                self.serve(&mut channel, handler);
                if port.is_left() {
                    // The machine has ended, and nobody waits for this.
                    return;
                }
                link.disconnect_events(id);
                port.disconnect();
                drop(channel);
                port.finish();
                link.closed(id);
            }
            Err(error) => {
                link.failed(&self.device, Some(id), "does not open", error);
                port.disconnect();
                port.finish();
                link.opened(id, false);
            }
        }
    }

    fn open(&self, opening: Opening) -> Result<(Channel, Box<dyn Handler>), ServiceError> {
        let Self { link, device, port, subchannel_index } = self;
        let id = opening.channel;
        port.show_rings(&opening.incoming, &opening.outgoing);
        let mut channel = Channel::new(opening, *subchannel_index, link.memory().clone(), port.clone())?;
        if let Some(tracer) = link.tracer() {
            channel.trace(tracer);
        }
        let handler = guarded(|| device.open(&mut channel))?;
        match link.connect_events(id, port) {
            Ok(()) => Ok((channel, handler)),
            Err(error) => {
                self.bury(id, handler);
                Err(error)
            }
        }
    }

    fn serve(&self, channel: &mut Channel, handler: Box<dyn Handler>) {
        let id = channel.id();
        let mut handler = Some(handler);
        // The guest may have written packets before it opened the channel.
        let mut work = Work::Serve(Vec::new());
        while let Work::Serve(leaving) = work {
            if self.port.gate().is_pausing() {
                self.park(channel, &mut handler);
            }
            let mut result = Ok(());
            if let Some(handler) = &mut handler {
                result = guarded(|| {
                    leaving.iter().for_each(|gpadl| handler.release_gpadl(*gpadl));
                    Ok(())
                });
            }
            leaving.into_iter().for_each(|gpadl| self.link.gpadl_released(id, gpadl));
            if let Some(handler) = handler.as_mut().filter(|_| result.is_ok()) {
                result = guarded(|| handler.service(channel));
            }
            if let Err(error) = result {
                self.give_up(id, &mut handler, error);
            }
            work = self.port.wait();
        }
        handler.into_iter().for_each(|handler| self.bury(id, handler));
    }

    /// Waits, with nothing in flight, until the machine is no longer paused.
    fn park(&self, channel: &mut Channel, handler: &mut Option<Box<dyn Handler>>) {
        let gate = self.port.gate();
        self.port.stop_timer();
        while gate.is_pausing() {
            match handler.as_mut().map_or(Ok(true), |handler| guarded(|| handler.pause(channel))) {
                Ok(true) => {
                    gate.pass();
                    break;
                }
                Ok(false) => self.port.sleep(),
                Err(error) => self.give_up(channel.id(), handler, error),
            }
        }
        self.port.start_timer();
        let resumed = handler.as_mut().map_or(Ok(()), |handler| {
            guarded(|| {
                handler.resume();
                Ok(())
            })
        });
        if let Err(error) = resumed {
            self.give_up(channel.id(), handler, error);
        }
    }

    /// Ends the service of a channel that its guest still has open.
    fn give_up(&self, channel: ChannelId, handler: &mut Option<Box<dyn Handler>>, error: ServiceError) {
        self.link.failed(&self.device, Some(channel), "is served no more until it is opened again", error);
        handler.take().into_iter().for_each(|handler| self.bury(channel, handler));
    }

    /// Drops a handler, which may be a library user's code.
    fn bury(&self, channel: ChannelId, handler: Box<dyn Handler>) {
        if let Err(message) = caught(move || drop(handler)) {
            let error = ServiceError::Panicked(message);
            self.link.failed(&self.device, Some(channel), "is closed, and its handler fails", error);
        }
    }
}

/// Calls a device's code, which may be a library user's. A panic ends its service, not the bus.
fn guarded<T>(code: impl FnOnce() -> Result<T, ServiceError>) -> Result<T, ServiceError> {
    caught(code).unwrap_or_else(|message| Err(ServiceError::Panicked(message)))
}
