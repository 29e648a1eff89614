//! Opening, closing and retargeting of channels.

use super::channel::{Standing, Usage};
use super::{BusAction, BusActions, Connection, Opening, Refusal};
use crate::vmbus::ids::{ChannelId, GpadlId, Version};
use crate::vmbus::message::Message;
use crate::vmbus::ring::RingMemory;
use crate::vmbus::wire::{MessageType, ModifyChannel, ModifyChannelResponse, OpenChannel, OpenResult, Status};

impl Connection {
    pub(super) fn open_channel(&mut self, request: OpenChannel, actions: &mut BusActions) -> Result<(), Refusal> {
        let result = self.try_open(&request, actions);
        if result.is_err() {
            self.send_open_result(request.channel, request.open_id, Status::UNSUCCESSFUL);
        }
        result
    }

    fn try_open(&mut self, request: &OpenChannel, actions: &mut BusActions) -> Result<(), Refusal> {
        let channel = request.channel;
        let vp_count = self.settings.vp_count;
        let version = self.version().ok_or(Refusal::NotConnected)?;
        let entry = self.known(channel)?;
        if entry.standing == Standing::Rescinded {
            return Err(Refusal::Rescinded(channel));
        }
        match &mut entry.usage {
            Usage::Closed => {}
            Usage::Closing { reopen: reopen @ None, .. } => {
                *reopen = Some(*request);
                return Ok(());
            }
            usage => {
                let message_type = MessageType::OPENCHANNEL;
                return Err(Refusal::State { message_type, channel, usage: usage.name() });
            }
        }
        let target = request.target_vp;
        if target != OpenChannel::NO_INTERRUPTS && target.0 >= vp_count {
            return Err(Refusal::NoSuchVp { target, vp_count });
        }
        let ring = request.ring_gpadl;
        let gpadl = entry.gpadls.get(ring).ok_or(Refusal::NoSuchGpadl(ring))?;
        let range = gpadl.single().ok_or(Refusal::RingRanges(ring))?;
        let (incoming, outgoing) = RingMemory::pair(range, request.downstream_offset)?;
        entry.usage = Usage::Opening { open_id: request.open_id, ring };
        actions.push(BusAction::Open(Box::new(Opening {
            channel,
            incoming,
            outgoing,
            target: (target != OpenChannel::NO_INTERRUPTS).then_some(target),
            user_defined: request.user_defined,
            gpadls: entry.gpadls.clone(),
            version,
        })));
        Ok(())
    }

    /// Completes [`BusAction::Open`]: the device has opened the channel, or failed to.
    pub fn opened(&mut self, channel: ChannelId, success: bool) -> BusActions {
        let mut actions = BusActions::new();
        let Some(entry) = self.channels.get_mut(&channel) else { return actions };
        let Usage::Opening { open_id, ring } = entry.usage else { return actions };
        // If the guest no longer wants the channel, it is closed again.
        let wanted = entry.standing == Standing::Offered;
        let known = entry.is_known();
        if success {
            entry.usage = Usage::Open { ring };
            if !wanted {
                entry.begin_close(channel, &mut actions);
            }
        } else {
            entry.usage = Usage::Closed;
        }
        if known {
            let status = if success && wanted { Status::SUCCESS } else { Status::UNSUCCESSFUL };
            self.send_open_result(channel, open_id, status);
        }
        if !success {
            self.now_closed(channel, &mut actions);
        }
        actions
    }

    pub(super) fn close_channel(&mut self, channel: ChannelId, actions: &mut BusActions) -> Result<(), Refusal> {
        let entry = self.known(channel)?;
        match (&entry.usage, entry.standing) {
            (Usage::Open { .. }, _) => {
                entry.begin_close(channel, actions);
                self.cut_off_subchannels(channel, actions);
                Ok(())
            }
            // The host has already begun to close it.
            (_, Standing::Rescinded) => Ok(()),
            (usage, _) => {
                let message_type = MessageType::CLOSECHANNEL;
                Err(Refusal::State { message_type, channel, usage: usage.name() })
            }
        }
    }

    /// Completes [`BusAction::Close`]: the device no longer uses the channel.
    pub fn closed(&mut self, channel: ChannelId) -> BusActions {
        let mut actions = BusActions::new();
        let Some(entry) = self.channels.get_mut(&channel) else { return actions };
        let Usage::Closing { reopen, .. } = &mut entry.usage else { return actions };
        let reopen = reopen.take();
        entry.usage = Usage::Closed;
        self.now_closed(channel, &mut actions);
        if let Some(request) = reopen
            && let Err(refusal) = self.open_channel(request, &mut actions)
        {
            actions.push(BusAction::Refuse(refusal));
        }
        actions
    }

    /// Continues with what waited for the device to close the channel.
    fn now_closed(&mut self, channel: ChannelId, actions: &mut BusActions) {
        self.torn_down_by_close(channel);
        self.tell_of_late_rescind(channel);
        self.settle(channel, actions);
        if let Err(refusal) = self.finish_disconnect() {
            actions.push(BusAction::Refuse(refusal));
        }
    }

    /// Completes [`BusAction::ReleaseGpadl`]: the device no longer uses the GPADL.
    pub fn gpadl_released(&mut self, channel: ChannelId, gpadl: GpadlId) -> BusActions {
        self.torn_down(channel, gpadl);
        BusActions::new()
    }

    pub(super) fn send_open_result(&mut self, channel: ChannelId, open_id: u32, status: Status) {
        self.outbox.push_back(Message::OpenResult(OpenResult { channel, open_id, status }));
    }

    pub(super) fn modify_channel(
        &mut self,
        request: ModifyChannel,
        version: Version,
        actions: &mut BusActions,
    ) -> Result<(), Refusal> {
        if version < Version::V4_1 {
            return Err(Refusal::NotInVersion { message_type: MessageType::MODIFYCHANNEL, version });
        }
        let result = self.try_modify(request, actions);
        if version >= Version::V5_3 {
            let status = if result.is_ok() { Status::SUCCESS } else { Status::UNSUCCESSFUL };
            let response = ModifyChannelResponse { channel: request.channel, status };
            self.outbox.push_back(Message::ModifyChannelResponse(response));
        }
        result
    }

    fn try_modify(&mut self, request: ModifyChannel, actions: &mut BusActions) -> Result<(), Refusal> {
        let ModifyChannel { channel, target_vp: target } = request;
        let vp_count = self.settings.vp_count;
        let entry = self.known(channel)?;
        if !matches!(entry.usage, Usage::Open { .. }) {
            let message_type = MessageType::MODIFYCHANNEL;
            return Err(Refusal::State { message_type, channel, usage: entry.usage.name() });
        }
        if target.0 >= vp_count {
            return Err(Refusal::NoSuchVp { target, vp_count });
        }
        actions.push(BusAction::Retarget(channel, target));
        Ok(())
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
