//! GPADLs from their first message to their teardown.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::channel::Usage;
use super::{BusAction, BusActions, Connection, Refusal};
use crate::host::lock::{Mutex, MutexGuard};
use crate::vmbus::gpadl::{Gpadl, GpadlBuilder};
use crate::vmbus::ids::{ChannelId, GpadlId};
use crate::vmbus::message::Message;
use crate::vmbus::wire::{GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, Status};

/// Maximum number of GPADLs of a guest. Linux has one for each open channel and two more for each network adapter.
pub const MAX_GPADLS: usize = 8192;

/// Maximum number of 64-bit words in the lists of all GPADLs: 4 GiB of guest pages. A network adapter of Linux has at
/// most 31 MiB of buffers, by default 16 MiB, and 256 KiB or more of rings for each VP.
pub const MAX_GPADL_WORDS: usize = 1 << 20;

/// Maximum number of incomplete GPADLs. Linux sends one after the other; other guests might send one from each VP.
pub const MAX_BUILDING: usize = 256;

/// The GPADLs of one channel, shared with the device that serves it.
#[derive(Debug, Default)]
pub struct GpadlTable(Mutex<BTreeMap<GpadlId, (Arc<Gpadl>, usize)>>);

impl GpadlTable {
    /// Returns the guest's GPADL `gpadl`, if it is complete and the guest has not begun to tear it down.
    pub fn get(&self, gpadl: GpadlId) -> Option<Arc<Gpadl>> {
        self.lock().get(&gpadl).map(|(pages, _)| pages.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GpadlId, (Arc<Gpadl>, usize)>> {
        self.0.lock()
    }
}

impl Connection {
    pub(super) fn gpadl_header(&mut self, header: GpadlHeader, ranges: &[u8]) -> Result<(), Refusal> {
        let GpadlHeader { channel, gpadl, .. } = header;
        let result = self.begin_gpadl(&header).and_then(|()| self.extend_gpadl(gpadl, ranges));
        self.answer_gpadl(channel, gpadl, result)
    }

    pub(super) fn gpadl_body(&mut self, body: GpadlBody, ranges: &[u8]) -> Result<(), Refusal> {
        let gpadl = body.gpadl;
        // Without a channel, there is nothing that a reply could refer to.
        let (channel, _) = self.building.get(&gpadl).ok_or(Refusal::NoSuchGpadl(gpadl))?;
        let channel = *channel;
        let result = self.extend_gpadl(gpadl, ranges);
        self.answer_gpadl(channel, gpadl, result)
    }

    /// Begins the GPADL that a header announces.
    fn begin_gpadl(&mut self, header: &GpadlHeader) -> Result<(), Refusal> {
        let GpadlHeader { channel, gpadl, range_bytes, range_count } = *header;
        let entry = self.known(channel)?;
        let taken = entry.gpadls.get(gpadl).is_some() || entry.leaving.contains_key(&gpadl);
        // A body does not name its channel, so the ids of incomplete GPADLs must be unique.
        if taken || self.building.contains_key(&gpadl) {
            return Err(Refusal::DuplicateGpadl(gpadl));
        }
        let words = usize::from(range_bytes) / size_of::<u64>();
        let full = self.gpadl_count >= MAX_GPADLS || self.building.len() >= MAX_BUILDING;
        if full || self.gpadl_words + words > MAX_GPADL_WORDS {
            return Err(Refusal::TooManyGpadls(gpadl));
        }
        let builder = GpadlBuilder::new(range_count, range_bytes).map_err(|reason| Refusal::Gpadl { gpadl, reason })?;
        self.gpadl_words += builder.words();
        self.gpadl_count += 1;
        self.building.insert(gpadl, (channel, builder));
        Ok(())
    }

    /// Adds to an incomplete GPADL. Returns `true` once it is complete. An invalid one is discarded.
    fn extend_gpadl(&mut self, gpadl: GpadlId, ranges: &[u8]) -> Result<bool, Refusal> {
        let (channel, builder) = self.building.get_mut(&gpadl).ok_or(Refusal::NoSuchGpadl(gpadl))?;
        let (channel, words) = (*channel, builder.words());
        let finished = match builder.append(ranges) {
            Ok(false) => return Ok(false),
            Ok(true) => builder.finish(&self.memory),
            Err(reason) => Err(reason),
        };
        self.building.remove(&gpadl);
        match finished {
            Ok(pages) => {
                if let Some(entry) = self.channels.get(&channel) {
                    entry.gpadls.lock().insert(gpadl, (Arc::new(pages), words));
                }
                Ok(true)
            }
            Err(reason) => {
                self.uncount(words);
                Err(Refusal::Gpadl { gpadl, reason })
            }
        }
    }

    fn answer_gpadl(
        &mut self,
        channel: ChannelId,
        gpadl: GpadlId,
        result: Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        let status = match &result {
            Ok(false) => return Ok(()),
            Ok(true) => Status::SUCCESS,
            Err(_) => Status::UNSUCCESSFUL,
        };
        self.outbox.push_back(Message::GpadlCreated(GpadlCreated { channel, gpadl, status }));
        result.map(|_| ())
    }

    /// Handles the teardown of a GPADL. One that no device can be using is removed at once, that of the rings when the
    /// channel is closed, and any other when the device has released it.
    pub(super) fn gpadl_teardown(&mut self, request: GpadlTeardown, actions: &mut BusActions) -> Result<(), Refusal> {
        let GpadlTeardown { channel, gpadl } = request;
        let entry = self.known(channel)?;
        let (_, words) = entry.gpadls.lock().remove(&gpadl).ok_or(Refusal::NoSuchGpadl(gpadl))?;
        entry.leaving.insert(gpadl, words);
        if matches!(entry.usage, Usage::Closed) {
            self.torn_down(channel, gpadl);
        } else if entry.usage.ring() != Some(gpadl) {
            actions.push(BusAction::ReleaseGpadl(channel, gpadl));
        }
        Ok(())
    }

    /// Notifies the guest that its pages were released, if it waits for that.
    pub(super) fn torn_down(&mut self, channel: ChannelId, gpadl: GpadlId) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        if let Some(words) = entry.leaving.remove(&gpadl) {
            self.uncount(words);
            self.outbox.push_back(Message::GpadlTorndown(GpadlTorndown { gpadl }));
        }
    }

    /// Handles a channel that the device has closed: it no longer uses any of its GPADLs.
    pub(super) fn torn_down_by_close(&mut self, channel: ChannelId) {
        let Some(entry) = self.channels.get(&channel) else { return };
        let leaving: Vec<GpadlId> = entry.leaving.keys().copied().collect();
        leaving.into_iter().for_each(|gpadl| self.torn_down(channel, gpadl));
    }

    /// Drops the GPADLs of a channel that the guest has released. The guest expects no more replies about them.
    pub(super) fn forget_gpadls(&mut self, channel: ChannelId) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        let mut gone: Vec<usize> = std::mem::take(&mut entry.leaving).into_values().collect();
        gone.extend(std::mem::take(&mut *entry.gpadls.lock()).into_values().map(|(_, words)| words));
        self.building.retain(|_, (owner, builder)| {
            if *owner == channel {
                gone.push(builder.words());
            }
            *owner != channel
        });
        gone.into_iter().for_each(|words| self.uncount(words));
    }

    fn uncount(&mut self, words: usize) {
        self.gpadl_words -= words;
        self.gpadl_count -= 1;
    }
}

#[cfg(test)]
#[path = "gpadls_tests.rs"]
mod tests;
