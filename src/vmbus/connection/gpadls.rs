//! GPADLs from their first message to their teardown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channel::Usage;
use super::{Action, Actions, Connection, Refusal};
use crate::vmbus::gpadl::{Gpadl, GpadlBuilder};
use crate::vmbus::ids::{ChannelId, GpadlId};
use crate::vmbus::message::Message;
use crate::vmbus::wire::{GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, Status};

/// How many GPADLs a guest can have at a time. Linux has one for each open channel and two more for each network adapter.
pub const MAX_GPADLS: usize = 8192;

/// How many 64-bit words the lists of all GPADLs can have together, so 4 GiB of guest pages.
/// A network adapter of Linux has 31 MiB of buffers at the very most, 16 MiB by default, and 256 KiB or more of rings for each VP.
pub const MAX_GPADL_WORDS: usize = 1 << 20;

/// How many GPADLs can be unfinished at a time. Linux sends one after the other; other guests might send one from each VP.
pub const MAX_BUILDING: usize = 256;

/// The GPADLs of one channel, shared with the device that serves it.
#[derive(Debug, Default)]
pub struct GpadlTable(Mutex<BTreeMap<GpadlId, (Arc<Gpadl>, usize)>>);

impl GpadlTable {
    /// Returns the GPADL that the guest calls `gpadl`, if it has made one and not begun to tear it down.
    pub fn get(&self, gpadl: GpadlId) -> Option<Arc<Gpadl>> {
        self.lock().get(&gpadl).map(|(pages, _)| pages.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GpadlId, (Arc<Gpadl>, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Without a channel there is nothing that an answer could name.
        let (channel, _) = self.building.get(&gpadl).ok_or(Refusal::NoSuchGpadl(gpadl))?;
        let channel = *channel;
        let result = self.extend_gpadl(gpadl, ranges);
        self.answer_gpadl(channel, gpadl, result)
    }

    /// Takes up a GPADL that its header announces.
    fn begin_gpadl(&mut self, header: &GpadlHeader) -> Result<(), Refusal> {
        let GpadlHeader { channel, gpadl, range_bytes, range_count } = *header;
        let entry = self.known(channel)?;
        let taken = entry.gpadls.get(gpadl).is_some() || entry.leaving.contains_key(&gpadl);
        // A body does not say for which channel it is, so unfinished ones need ids of their own.
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

    /// Adds to an unfinished GPADL. Returns `true` once it is finished; gone if it cannot be.
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

    /// A GPADL that no device can be using goes at once, that of the rings when the channel is closed, any other when
    /// the device says so.
    pub(super) fn gpadl_teardown(&mut self, request: GpadlTeardown, actions: &mut Actions) -> Result<(), Refusal> {
        let GpadlTeardown { channel, gpadl } = request;
        let entry = self.known(channel)?;
        let (_, words) = entry.gpadls.lock().remove(&gpadl).ok_or(Refusal::NoSuchGpadl(gpadl))?;
        entry.leaving.insert(gpadl, words);
        if matches!(entry.usage, Usage::Closed) {
            self.torn_down(channel, gpadl);
        } else if entry.usage.ring() != Some(gpadl) {
            actions.push(Action::ReleaseGpadl(channel, gpadl));
        }
        Ok(())
    }

    /// Tells the guest that it has its pages back, if it is waiting for that.
    pub(super) fn torn_down(&mut self, channel: ChannelId, gpadl: GpadlId) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        if let Some(words) = entry.leaving.remove(&gpadl) {
            self.uncount(words);
            self.outbox.push_back(Message::GpadlTorndown(GpadlTorndown { gpadl }));
        }
    }

    /// The device has closed the channel, and so uses none of its GPADLs.
    pub(super) fn torn_down_by_close(&mut self, channel: ChannelId) {
        let Some(entry) = self.channels.get(&channel) else { return };
        let leaving: Vec<GpadlId> = entry.leaving.keys().copied().collect();
        leaving.into_iter().for_each(|gpadl| self.torn_down(channel, gpadl));
    }

    /// The guest has let go of the channel and expects no more answers about its GPADLs.
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
