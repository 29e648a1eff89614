use super::*;
use crate::vmbus::connection::test_guest::*;
use crate::vmbus::ids::ConnectionId;
use crate::vmbus::ids::Version;

#[test]
fn each_connection_gets_every_offer_once_and_then_alloffers_delivered() {
    let mut guest = Guest::new();
    for device in 1..=3 {
        guest.host.offer(offer(device)).unwrap();
    }
    guest.contact(Version::V5_3);
    guest.messages();
    guest.post(MessageType::REQUESTOFFERS, &[0u8; 0]);
    let messages = guest.messages();
    assert_eq!(offered(&messages), [1, 2, 3]);
    assert_eq!(messages.last(), Some(&Message::AllOffersDelivered));
    let Message::OfferChannel(first) = &messages[0] else { panic!() };
    assert_eq!((first.connection, first.is_dedicated_interrupt, first.monitor_allocated), (ConnectionId(0x2001), 1, 0));
    assert_eq!(refused(&guest.post(MessageType::REQUESTOFFERS, &[0u8; 0])), Refusal::OffersRequested);
    assert_eq!(guest.messages(), []);

    guest.host.offer(offer(4)).unwrap();
    assert_eq!(offered(&guest.messages()), [4], "at run time");
    assert_eq!(offered_again(&mut guest), [1, 2, 3, 4]);
}

#[test]
fn no_device_is_offered_twice_and_ids_run_out() {
    let mut guest = Guest::new();
    assert_eq!(guest.host.offer(offer(1)), Ok(ChannelId(1)));
    assert!(matches!(guest.host.offer(offer(1)), Err(OfferError::Duplicate { .. })));
    assert_eq!(guest.host.offer(offer(1).subchannel(1)), Err(OfferError::NoPrimary(1)));
    for device in 2..=MAX_CHANNELS as u128 {
        guest.host.offer(offer(device)).unwrap();
    }
    assert_eq!(guest.host.offer(offer(5000)), Err(OfferError::TooMany));
    assert!(matches!(guest.host.rescind(ChannelId(9))[..], [BusAction::Remove(ChannelId(9))]));
    assert_eq!(guest.host.offer(offer(5000)), Ok(ChannelId(9)));
}

#[test]
fn a_channel_in_any_state_is_rescinded_and_its_id_is_free_after_the_release() {
    type Before = fn(&mut Guest);
    let befores: [(&str, Before); 4] = [
        ("closed", |_| {}),
        ("opening", |guest| drop((guest.gpadl(1, 1, &[0, 1, 2, 3]), guest.open(1, 1)))),
        ("open", |guest| guest.open_fully(1)),
        ("closing", |guest| {
            guest.open_fully(1);
            guest.close(1);
            guest.open(1, 1);
        }),
    ];
    for (usage, before) in befores {
        for release_first in [false, true] {
            let mut guest = Guest::connected(2);
            before(&mut guest);
            guest.messages();
            let mut actions = guest.host.rescind(ChannelId(1));
            let told = guest.messages().contains(&rescinded(1));
            assert_eq!(told, usage == "closed", "the device uses the guest's pages");
            assert!(guest.host.rescind(ChannelId(1)).is_empty());
            let mut device = |guest: &mut Guest| {
                if usage == "opening" {
                    actions.extend(guest.host.opened(ChannelId(1), true));
                }
                if usage != "closed" {
                    actions.extend(guest.host.closed(ChannelId(1)));
                    assert_eq!(guest.messages().contains(&rescinded(1)), !release_first, "{usage}");
                }
            };
            if release_first {
                let released = guest.release(1);
                device(&mut guest);
                actions.extend(released);
            } else {
                device(&mut guest);
                assert_eq!(guest.host.offer(offer(9)), Ok(ChannelId(3)), "the id is not free yet");
                actions.extend(guest.release(1));
            }
            let closes = actions.iter().filter(|action| matches!(action, BusAction::Close(_))).count();
            let removes = actions.iter().filter(|action| matches!(action, BusAction::Remove(ChannelId(1)))).count();
            assert_eq!((closes, removes), (usize::from(matches!(usage, "opening" | "open")), 1), "{usage}");
            assert_eq!(guest.host.offer(offer(10)), Ok(ChannelId(1)));
            assert_eq!(refused(&guest.close(7)), Refusal::NoSuchChannel(ChannelId(7)));
            assert_eq!((guest.host.gpadl_words, guest.host.gpadl_count), (0, 0));
        }
    }
}

#[test]
fn a_retired_channel_stays_open_until_the_guest_closes_it_or_the_host_rescinds_it() {
    type End = fn(&mut Guest) -> BusActions;
    let ends: [(&str, End); 4] = [
        ("close", |guest| guest.close(1)),
        ("release", |guest| guest.release(1)),
        ("rescind", |guest| guest.host.rescind(ChannelId(1))),
        ("unload", |guest| guest.post(MessageType::UNLOAD, &[0_u8; 0])),
    ];
    for (name, end) in ends {
        let mut guest = Guest::connected(1);
        guest.open_fully(1);
        guest.host.offer(offer(1).subchannel(1)).unwrap();
        guest.messages();
        guest.open_fully(2);
        guest.messages();
        assert!(guest.host.retire(ChannelId(1)).is_empty(), "{name}");
        assert_eq!(guest.messages(), [rescinded(1), rescinded(2)], "{name}");
        assert!(guest.host.retire(ChannelId(1)).is_empty());
        let actions = end(&mut guest);
        assert!(
            matches!(actions[..], [BusAction::Close(ChannelId(1)), BusAction::Close(ChannelId(2))]),
            "{name}: {actions:?}"
        );
        let closed = [1, 2].map(|channel| guest.host.closed(ChannelId(channel)));
        let released = if matches!(name, "close" | "rescind") {
            [1, 2].map(|channel| guest.release(channel))
        } else {
            [guest.release(2), BusActions::new()]
        };
        let removes =
            closed.iter().chain(&released).flatten().filter(|action| matches!(action, BusAction::Remove(_))).count();
        assert_eq!(removes, 2, "{name}");
    }
}

#[test]
fn retiring_a_channel_that_is_not_open_rescinds_it_at_once() {
    let mut guest = Guest::connected(2);
    guest.host.retire(ChannelId(1));
    guest.gpadl(2, 1, &[0, 1, 2, 3]);
    guest.open(2, 1);
    assert!(guest.host.retire(ChannelId(2)).is_empty());
    assert!(matches!(guest.host.opened(ChannelId(2), true)[..], [BusAction::Close(ChannelId(2))]));
    assert_eq!(guest.messages(), [rescinded(1), created(2, 1, true), rescinded(2), open_result(2, false)]);
    assert!(matches!(guest.release(1)[..], [BusAction::Remove(ChannelId(1))]));
}

#[test]
fn requests_for_a_rescinded_channel_are_still_answered() {
    let mut guest = Guest::connected(1);
    guest.host.rescind(ChannelId(1));
    guest.gpadl(1, 1, &[0, 1, 2, 3]);
    assert_eq!(refused(&guest.open(1, 1)), Refusal::Rescinded(ChannelId(1)));
    assert!(guest.close(1).is_empty());
    assert!(guest.teardown(1, 1).is_empty());
    let answers = [rescinded(1), created(1, 1, true), open_result(1, false), torndown(1)];
    assert_eq!(guest.messages(), answers);
}

#[test]
fn an_offer_that_the_guest_never_read_is_taken_back_silently() {
    let mut guest = Guest::connected(0);
    guest.host.offer(offer(1)).unwrap();
    assert!(matches!(guest.host.rescind(ChannelId(1))[..], [BusAction::Remove(_)]));
    assert_eq!(guest.messages(), []);

    guest.host.offer(offer(1)).unwrap();
    guest.gpadl(1, 1, &[0]);
    assert!(guest.host.rescind(ChannelId(1)).is_empty(), "the guest guessed it");
    assert_eq!(guest.messages().len(), 3);
}

#[test]
fn a_device_that_comes_back_waits_for_the_release_of_its_last_offer() {
    let mut guest = Guest::connected(1);
    guest.host.rescind(ChannelId(1));
    assert_eq!(guest.host.offer(offer(1)), Ok(ChannelId(2)));
    assert_eq!(guest.messages(), [rescinded(1)], "Linux would take the new offer for the old device");
    assert!(matches!(guest.release(1)[..], [BusAction::Remove(ChannelId(1))]));
    assert_eq!(offered(&guest.messages()), [2]);
}

#[test]
fn a_guest_may_decline_an_offer_and_gets_it_again_with_its_next_contact() {
    let mut guest = Guest::connected(2);
    guest.open_fully(2);
    assert!(guest.release(1).is_empty());
    assert!(matches!(refused(&guest.release(2)), Refusal::State { usage: "open", .. }));
    assert_eq!(refused(&guest.open(1, 1)), Refusal::NoSuchChannel(ChannelId(1)));
    guest.close(2);
    guest.host.closed(ChannelId(2));
    assert_eq!(offered_again(&mut guest), [1, 2]);
}

#[test]
fn subchannels_exist_while_their_primary_is_open() {
    let mut guest = Guest::connected(2);
    guest.open_fully(1);
    assert_eq!(guest.host.offer(offer(1).subchannel(1)), Ok(ChannelId(3)));
    assert_eq!(guest.host.offer(offer(1).subchannel(2)), Ok(ChannelId(4)));
    assert_eq!(guest.host.offer(offer(2).subchannel(1)), Err(OfferError::NoPrimary(1)));
    assert_eq!(offered(&guest.messages()), [3, 4]);
    guest.open_fully(3);
    assert!(matches!(guest.close(1)[..], [BusAction::Close(ChannelId(1)), BusAction::Close(ChannelId(3))]));
    assert_eq!(guest.messages(), [rescinded(4)], "the other is still open here");
    guest.host.closed(ChannelId(1));
    guest.host.closed(ChannelId(3));
    assert_eq!(guest.messages(), [rescinded(3)]);
    assert!(matches!(guest.release(3)[..], [BusAction::Remove(ChannelId(3))]));
    assert!(matches!(guest.release(4)[..], [BusAction::Remove(ChannelId(4))]));
}
