//! Random guests, hosts and devices, compared with a model of the legal requests and of the messages and actions that are
//! forbidden for the host.

use super::test_guest::{Guest, PAGES, contact, offer};
use super::*;
use crate::vmbus::message::message;
use crate::vmbus::wire::{MessageType, Status};
use proptest::prelude::*;
use std::collections::BTreeSet;

const CHANNELS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Contact {
        version: usize,
    },
    Unload,
    RequestOffers,
    Gpadl {
        channel: u32,
        gpadl: u32,
        page: u64,
    },
    Teardown {
        channel: u32,
        gpadl: u32,
    },
    Open {
        channel: u32,
        gpadl: u32,
    },
    Close {
        channel: u32,
    },
    Release {
        channel: u32,
    },
    /// The device finishes its pending action.
    Device {
        channel: u32,
        success: bool,
    },
    DeviceReleases {
        channel: u32,
        gpadl: u32,
    },
    Offer {
        device: u128,
    },
    OfferSocket {
        device: u128,
    },
    Rescind {
        channel: u32,
    },
    Retire {
        channel: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (channel, gpadl) = (1..=CHANNELS + 1, 1..=3u32);
    let both = (channel.clone(), gpadl.clone());
    prop_oneof![
        1 => (0..8usize).prop_map(|version| Step::Contact { version }),
        1 => Just(Step::Unload),
        4 => Just(Step::RequestOffers),
        8 => (channel.clone(), gpadl, 0..PAGES + 2).prop_map(|(channel, gpadl, page)| Step::Gpadl { channel, gpadl, page }),
        4 => both.clone().prop_map(|(channel, gpadl)| Step::Teardown { channel, gpadl }),
        8 => both.clone().prop_map(|(channel, gpadl)| Step::Open { channel, gpadl }),
        4 => channel.clone().prop_map(|channel| Step::Close { channel }),
        2 => channel.clone().prop_map(|channel| Step::Release { channel }),
        12 => (channel.clone(), any::<bool>()).prop_map(|(channel, success)| Step::Device { channel, success }),
        2 => both.prop_map(|(channel, gpadl)| Step::DeviceReleases { channel, gpadl }),
        4 => (1..=u128::from(CHANNELS)).prop_map(|device| Step::Offer { device }),
        2 => (1..=u128::from(CHANNELS)).prop_map(|device| Step::OfferSocket { device }),
        2 => channel.clone().prop_map(|channel| Step::Rescind { channel }),
        2 => channel.prop_map(|channel| Step::Retire { channel }),
    ]
}

/// The pending action of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Device {
    #[default]
    Closed,
    Opening,
    Open,
    Closing,
}

/// A channel, as far as it follows from messages and actions.
#[derive(Clone, Debug, Default)]
struct Seen {
    offered: bool,
    rescinded: bool,
    /// The host has rescinded the offer, and notifies the guest when the device has closed the channel.
    untold: bool,
    /// The host has retired the offer, and keeps the channel open.
    retired: bool,
    device: Device,
    ring: Option<u32>,
    reopen: Option<u32>,
    gpadls: BTreeSet<u32>,
    /// GPADLs that the guest tears down, without an answer yet.
    leaving: BTreeSet<u32>,
    /// GPADLs of these that the device has released.
    let_go: BTreeSet<u32>,
}

#[derive(Debug, Default)]
struct Model {
    connected: bool,
    requested: bool,
    channels: BTreeMap<u32, Seen>,
}

impl Seen {
    fn is_gone(&self) -> bool {
        self.rescinded || self.untold
    }
}

impl Model {
    fn channel(&mut self, channel: u32) -> &mut Seen {
        self.channels.entry(channel).or_default()
    }

    /// Returns `true` if the protocol allows a step of the guest. Steps of the host and the device are always legal.
    fn is_legal(&mut self, step: &Step) -> bool {
        let connected = self.connected;
        let requested = self.requested;
        let mut known = |channel: u32| {
            let seen = self.channel(channel).clone();
            (connected && (seen.offered || seen.rescinded)).then_some(seen)
        };
        match *step {
            Step::RequestOffers => connected && !requested,
            Step::Gpadl { channel, gpadl, page } => known(channel).is_some_and(|seen| {
                page + 3 < PAGES && !seen.gpadls.contains(&gpadl) && !seen.leaving.contains(&gpadl)
            }),
            Step::Teardown { channel, gpadl } => known(channel).is_some_and(|seen| seen.gpadls.contains(&gpadl)),
            Step::Open { channel, gpadl } => known(channel).is_some_and(|seen| {
                let closed = seen.device == Device::Closed && seen.gpadls.contains(&gpadl);
                let closing = seen.device == Device::Closing && seen.reopen.is_none();
                !seen.is_gone() && (closed || closing)
            }),
            Step::Close { channel } => known(channel).is_some_and(|seen| seen.is_gone() || seen.device == Device::Open),
            Step::Release { channel } => known(channel)
                .is_some_and(|seen| seen.is_gone() || matches!(seen.device, Device::Closed | Device::Closing)),
            _ => true,
        }
    }

    /// Applies a legal step to the guest's state.
    fn follow(&mut self, step: &Step) {
        match *step {
            Step::Contact { .. } | Step::Unload => self.forget_guest(),
            Step::RequestOffers => self.requested = true,
            Step::Gpadl { channel, gpadl, .. } => drop(self.channel(channel).gpadls.insert(gpadl)),
            Step::Teardown { channel, gpadl } => {
                let seen = self.channel(channel);
                seen.gpadls.remove(&gpadl);
                seen.leaving.insert(gpadl);
            }
            Step::Open { channel, gpadl } => {
                let seen = self.channel(channel);
                if seen.device == Device::Closing {
                    seen.reopen = Some(gpadl);
                } else {
                    seen.ring = Some(gpadl);
                }
            }
            Step::Release { channel } => {
                let seen = self.channel(channel);
                *seen = Seen { device: seen.device, ..Seen::default() };
            }
            _ => {}
        }
    }

    fn forget_guest(&mut self) {
        (self.connected, self.requested) = (false, false);
        self.channels.values_mut().for_each(|seen| *seen = Seen { device: seen.device, ..Seen::default() });
    }

    fn take_action(&mut self, action: &BusAction) -> Result<(), TestCaseError> {
        match action {
            BusAction::Open(opening) => {
                let seen = self.channel(opening.channel.0);
                prop_assert_eq!(seen.device, Device::Closed);
                seen.device = Device::Opening;
                if let Some(ring) = seen.reopen.take() {
                    seen.ring = Some(ring);
                }
            }
            BusAction::Close(channel) => {
                let seen = self.channel(channel.0);
                prop_assert_eq!(seen.device, Device::Open);
                seen.device = Device::Closing;
            }
            BusAction::ReleaseGpadl(channel, gpadl) => {
                prop_assert!(self.channel(channel.0).leaving.contains(&gpadl.0));
                prop_assert_ne!(self.channel(channel.0).device, Device::Closed);
            }
            BusAction::Remove(channel) => {
                let seen = self.channels.remove(&channel.0).unwrap_or_default();
                prop_assert_eq!(seen.device, Device::Closed);
                prop_assert!(!seen.offered && !seen.rescinded, "the guest still knows channel {}", channel);
            }
            BusAction::Retarget(..) | BusAction::Connect(_) | BusAction::Refuse(_) => {}
        }
        Ok(())
    }

    fn hear(&mut self, message: &Message) -> Result<(), TestCaseError> {
        let idle = self.channels.values().all(|seen| seen.device == Device::Closed);
        match message {
            Message::VersionResponse(response) => {
                prop_assert!(idle && !self.connected, "answered while a device uses the old kernel's memory");
                self.connected = response.supported == 1;
            }
            Message::UnloadResponse => prop_assert!(idle && !self.connected),
            Message::OfferChannel(offer) => {
                prop_assert!(self.connected && self.requested);
                let seen = self.channel(offer.channel.0);
                prop_assert!(!seen.offered && !seen.rescinded, "offered twice");
                seen.offered = true;
            }
            Message::RescindChannelOffer(body) => {
                let seen = self.channel(body.channel.0);
                prop_assert!(seen.offered && !seen.rescinded);
                prop_assert!(seen.retired || seen.device == Device::Closed, "told while the device has the rings");
                (seen.offered, seen.rescinded, seen.reopen) = (false, true, None);
            }
            Message::OpenResult(result) if result.status == Status::SUCCESS => {
                prop_assert_eq!(self.channel(result.channel.0).device, Device::Open);
            }
            Message::GpadlTorndown(body) => {
                let gpadl = body.gpadl.0;
                // In this model, ids belong to a channel, so any channel that waits for the id matches.
                let free = |seen: &Seen| {
                    seen.leaving.contains(&gpadl) && (seen.device == Device::Closed || seen.let_go.contains(&gpadl))
                };
                let seen = self.channels.values_mut().find(|seen| free(seen));
                prop_assert!(seen.is_some(), "GPADL {gpadl} was given back while the device has it");
                seen.into_iter().for_each(|seen| {
                    seen.leaving.remove(&gpadl);
                    seen.let_go.remove(&gpadl);
                });
            }
            _ => prop_assert!(self.connected),
        }
        Ok(())
    }
}

fn perform(guest: &mut Guest, model: &mut Model, step: &Step) -> BusActions {
    match *step {
        Step::Contact { version } => guest.contact(Version::ALL[version]),
        Step::Unload => guest.post(MessageType::UNLOAD, &[0u8; 0]),
        Step::RequestOffers => guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]),
        Step::Gpadl { channel, gpadl, page } => guest.gpadl(channel, gpadl, &[page, page + 1, page + 2, page + 3]),
        Step::Teardown { channel, gpadl } => guest.teardown(channel, gpadl),
        Step::Open { channel, gpadl } => guest.open(channel, gpadl),
        Step::Close { channel } => guest.close(channel),
        Step::Release { channel } => guest.release(channel),
        Step::Device { channel, success } => {
            let seen = model.channel(channel);
            match seen.device {
                Device::Opening => {
                    seen.device = if success { Device::Open } else { Device::Closed };
                    guest.host.opened(ChannelId(channel), success)
                }
                Device::Closing => {
                    seen.device = Device::Closed;
                    // The channel may be opened again at once.
                    seen.let_go.extend(seen.leaving.iter().copied());
                    guest.host.closed(ChannelId(channel))
                }
                Device::Open | Device::Closed => {
                    // There was no request, so there must be no effect.
                    let mut actions = guest.host.opened(ChannelId(channel), success);
                    actions.extend(guest.host.closed(ChannelId(channel)));
                    actions
                }
            }
        }
        Step::DeviceReleases { channel, gpadl } => {
            let seen = model.channel(channel);
            if seen.ring == Some(gpadl) && seen.device != Device::Closed || !seen.leaving.contains(&gpadl) {
                return BusActions::new();
            }
            seen.let_go.insert(gpadl);
            guest.host.gpadl_released(ChannelId(channel), GpadlId(gpadl))
        }
        Step::Offer { device } => {
            let _ = guest.host.offer(offer(device));
            BusActions::new()
        }
        Step::OfferSocket { device } => {
            let _ = guest.host.offer_socket(offer(100 + device), None);
            BusActions::new()
        }
        Step::Rescind { channel } => guest.host.rescind(ChannelId(channel)),
        Step::Retire { channel } => {
            let seen = model.channel(channel);
            seen.retired |= !seen.untold;
            guest.host.retire(ChannelId(channel))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_connection_follows_the_model_for_legal_messages_and_refuses_others(steps in prop::collection::vec(step(), 1..120)) {
        let mut guest = Guest::new();
        let mut model = Model::default();
        for device in 1..=u128::from(CHANNELS) {
            guest.host.offer(offer(device)).unwrap();
        }
        let start = [Step::Contact { version: 7 }, Step::RequestOffers];
        for step in start.iter().chain(&steps) {
            let legal = model.is_legal(step);
            let by_guest = !matches!(step, Step::Device { .. });
            if legal {
                model.follow(step);
            }
            let actions = perform(&mut guest, &mut model, step);
            for (channel, entry) in &guest.host.channels {
                model.channel(channel.0).untold = entry.untold;
            }
            let refused = actions.iter().any(|action| matches!(action, BusAction::Refuse(_)));
            prop_assert_eq!(refused && by_guest, !legal, "{:?} {:?}", step, actions);
            actions.iter().try_for_each(|action| model.take_action(action))?;
            // A pending request to open again that failed.
            if let Step::Device { channel, .. } = step && refused {
                model.channel(*channel).reopen = None;
            }
            guest.messages().iter().try_for_each(|message| model.hear(message))?;
            let counted: usize = model.channels.values().map(|seen| seen.gpadls.len() + seen.leaving.len()).sum();
            prop_assert_eq!(guest.host.gpadl_count, counted);
        }
        // After any steps, a new kernel gets its connection when the devices have finished.
        model.forget_guest();
        guest.contact(Version::V5_3).iter().try_for_each(|action| model.take_action(action))?;
        for channel in (1..=CHANNELS + 1).chain(1..=CHANNELS + 1) {
            let step = Step::Device { channel, success: true };
            let actions = perform(&mut guest, &mut model, &step);
            actions.iter().try_for_each(|action| model.take_action(action))?;
        }
        prop_assert_eq!(guest.host.version(), Some(Version::V5_3));
        prop_assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
    }

    #[test]
    fn random_messages_never_panic(
        messages in prop::collection::vec(
            (0u32..26, prop::collection::vec(prop_oneof![0u64..6, any::<u64>(), Just(4096 << 1), Just(1 << 32)], 0..29)),
            0..60,
        ),
        cut in 0usize..8,
    ) {
        let mut guest = Guest::new();
        guest.host.offer(offer(1)).unwrap();
        guest.host.offer(offer(2)).unwrap();
        guest.post(MessageType::INITIATE_CONTACT, &contact(Version::V5_3));
        for (message_type, words) in messages {
            let mut bytes = message(MessageType(message_type), &words[..]);
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            for action in guest.host.receive(ConnectionId::MESSAGES_5, &bytes) {
                match action {
                    BusAction::Open(opening) => drop(guest.host.opened(opening.channel, true)),
                    BusAction::Close(channel) => drop(guest.host.closed(channel)),
                    _ => {}
                }
            }
        }
        prop_assert!(guest.host.gpadl_words <= MAX_GPADL_WORDS && guest.host.building.len() <= MAX_BUILDING);
    }
}
