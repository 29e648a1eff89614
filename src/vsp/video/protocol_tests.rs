use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::host::lock::Mutex;
use crate::vsp::pipe::testing::drain;
use crate::vsp::video::edid::edid;
use crate::vsp::video::picture::{MAX_HEIGHT, MAX_WIDTH};
use crate::vsp::video::testing::{VRAM, message};
use crate::vsp::video::wire::{PointerPosition, Situation};

fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(VRAM), 0x1_0000)]).unwrap()
}

/// Sends a message, and returns type and body of what is sent back.
fn ask(video: &mut Video, message_type: u32, body: &[u8]) -> Vec<(u32, Vec<u8>)> {
    video.receive(&message(message_type, body)).unwrap();
    let split = |packet: Vec<u8>| {
        let answer = unwrap(&packet).unwrap();
        let header: Header = read(answer).unwrap();
        assert_eq!(header.length as usize, answer.len());
        (header.message_type.0, answer[8..].to_vec())
    };
    drain(video, Duration::ZERO).into_iter().map(split).collect()
}

fn version(video: &mut Video, major: u32, minor: u32) -> bool {
    let word = (minor << 16 | major).to_le_bytes();
    let [(2, body)] = &ask(video, 1, &word)[..] else { panic!("one answer") };
    assert_eq!((&body[..4], body[5]), (&word[..], 1));
    // From 3.2 on, a version can be requested again.
    assert_eq!(body[4] == 2, body[4] != 0 && minor >= 2);
    body[4] != 0
}

fn ready() -> Video {
    let mut video = Video::new(1920, 1080);
    video.attach(&memory());
    video.opened();
    assert!(version(&mut video, 3, 5));
    video
}

fn situation(width: u32, height: u32, depth: u8, pitch: u32, offset: u32) -> Vec<u8> {
    let output = Situation {
        active: 1,
        offset: offset.into(),
        depth,
        width: width.into(),
        height: height.into(),
        pitch: pitch.into(),
    };
    SituationUpdate { context: 7.into(), outputs: 1, output }.as_bytes().to_vec()
}

#[test]
fn the_versions_of_linux_and_windows_are_accepted() {
    let mut video = ready();
    let accepted: Vec<_> = (0..8).filter(|minor| version(&mut video, 3, *minor)).collect();
    assert_eq!(accepted, [0, 1, 2, 3, 4, 5]);
    assert!(!version(&mut video, 2, 0) && !version(&mut video, 4, 0));
    assert!(ask(&mut video, 3, &[0; 17]).is_empty(), "a guest that has no version has no screen");
}

#[test]
fn what_a_kernel_draws_before_it_has_a_driver_is_seen_until_a_driver_shows_something() {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(VRAM), 0x1_0000)]).unwrap();
    let mut video = Video::new(64, 64);
    assert!(!video.is_early());
    video.begin(Some(Early { memory: memory.clone(), first: VRAM, size: video.size() }));
    assert!(video.is_early() && video.view().is_none() && video.facts().mode.is_none(), "it draws nothing");
    memory.write_slice(&[1, 2, 3, 0], GuestAddress(VRAM + 4 * 65)).unwrap();
    let picture = |video: &Video| video.view().map(|view| view.picture().pixel(1, 1));
    assert_eq!((picture(&video), video.facts().mode.unwrap().width), (Some(Some([3, 2, 1])), 64));
    let situations = video.view().unwrap().situation;
    // A driver that gives up changes nothing.
    video.attach(&memory);
    video.opened();
    assert!(version(&mut video, 3, 5) && video.is_early());
    video.closed();
    assert_eq!(picture(&video), Some(Some([3, 2, 1])));
    video.opened();
    assert!(version(&mut video, 3, 5));
    let location = VramLocation { context: 0.into(), specified: 1, address: (VRAM + 0x8000).into() };
    ask(&mut video, 3, location.as_bytes());
    ask(&mut video, 5, &situation(8, 4, 32, 64, 0));
    assert_eq!((picture(&video), video.is_early()), (Some(Some([0; 3])), false));
    assert!(video.view().unwrap().situation > situations, "it is another picture");
    video.opened();
    assert!(video.view().is_none(), "the old one is gone");
    video.reset();
    video.begin(Some(Early { memory, first: VRAM, size: (64, 64) }));
    assert_eq!(picture(&video), Some(Some([3, 2, 1])), "the next life has one again");
}

#[test]
fn a_guest_that_draws_is_seen() {
    let mut video = ready();
    assert!(video.view().is_none());
    let location = VramLocation { context: 0x1234.into(), specified: 1, address: VRAM.into() };
    assert_eq!(ask(&mut video, 3, location.as_bytes()), [(4, 0x1234_u64.to_le_bytes().to_vec())]);
    let answers = ask(&mut video, 5, &situation(8, 4, 32, 64, 256));
    assert_eq!(answers, [(6, 7_u64.to_le_bytes().to_vec()), features([0, 0, 0, 1], (1920, 1080))]);
    video.memory.as_ref().unwrap().write_slice(&[1, 2, 3, 0], GuestAddress(VRAM + 256 + 64 + 4)).unwrap();
    let picture = video.view().unwrap().picture();
    assert_eq!((picture.size(), picture.pixel(1, 1), picture.pixel(0, 0)), ((8, 4), Some([3, 2, 1]), Some([0; 3])));
    video.closed();
    assert!(video.view().is_some(), "the last picture stays");
    video.reset();
    assert!(video.view().is_none());
}

#[test]
fn a_new_size_is_an_event_and_many_are_few_events() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = events.clone();
    let mut video = Video::new(800, 600).telling(Outlet::new(move |event| heard.lock().push(event.what)));
    video.attach(&memory());
    video.opened();
    assert!(version(&mut video, 3, 5));
    for width in [640, 640, 641, 642] {
        ask(&mut video, 5, &situation(width, 480, 32, 0, 0));
    }
    assert_eq!((events.lock().len(), video.deadline()), (1, Some(TELLING)));
    drain(&mut video, TELLING / 2);
    assert_eq!(events.lock().len(), 1);
    drain(&mut video, TELLING);
    assert_eq!(*events.lock(), ["the screen has 640x480 pixels", "the screen has 642x480 pixels"]);
    assert_eq!(video.deadline(), None);
}

#[test]
fn pictures_that_the_host_does_not_show_are_refused_and_counted() {
    let mut video = ready();
    for (width, height, depth, pitch) in [
        (0, 4, 32, 32),
        (8, 0, 32, 32),
        (MAX_WIDTH + 1, 1, 32, 0),
        (1, MAX_HEIGHT + 1, 32, 0),
        (8, 4, 16, 32),
        (8, 4, 32, 31),
        (8, 4, 32, u32::MAX),
        (u32::MAX, u32::MAX, 32, 0),
    ] {
        assert_eq!(ask(&mut video, 5, &situation(width, height, depth, pitch, 0))[0].0, 6);
        assert_eq!(video.facts().mode, None, "{width}x{height}");
    }
    assert_eq!((video.facts().refused_modes, video.facts().situations), (8, 8));
}

#[test]
fn the_guest_sets_aside_what_the_picture_needs() {
    for (width, height, megabytes) in
        [(64, 64, 4), (1152, 864, 4), (1920, 1080, 8), (4096, 4096, 64), (4097, 4096, 128), (7680, 4320, 128)]
    {
        assert_eq!(Video::new(width, height).offer().mmio_megabytes, megabytes, "{width}x{height}");
    }
}

#[test]
fn the_sizes_are_listed_with_the_wanted_one_first() {
    let mut video = ready();
    let [(14, body)] = &ask(&mut video, 13, &[64])[..] else { panic!("one answer") };
    assert_eq!(&body[128..131], &[8, 0, 0], "hyperv_drm wants an index below the count");
    assert_eq!(body.len(), 131 + 4 * 8);
    assert_eq!(read::<Resolution>(&body[131..]), Some(Resolution { width: 1920, height: 1080 }));
    let [(14, body)] = &ask(&mut video, 13, &[0])[..] else { panic!("one answer") };
    assert_eq!(body[128], 1, "never none");
    let sizes = Sizes { preferred: Resolution { width: 7, height: 7 }, ..Sizes::new(7680, 4320) };
    let longest = sizes.list().len();
    assert!(16 + EDID + 3 + 4 * longest <= Video::MAX_PACKET);
}

#[test]
fn a_guest_learns_of_the_firmware_and_from_3_5_on_of_capabilities() {
    let mut video = ready();
    assert_eq!(ask(&mut video, 11, &[]), [(12, vec![0; 16])]);
    assert_eq!(ask(&mut video, 15, &[]), [(16, vec![0; 64])]);
    assert!(version(&mut video, 3, 4));
    let unknown = video.facts().unknown;
    assert_eq!((ask(&mut video, 15, &[]), video.facts().unknown), (vec![], unknown + 1));
}

#[test]
fn a_guest_that_reads_no_answers_is_stopped() {
    let mut video = ready();
    let sent = (0..1000).take_while(|_| video.receive(&message(13, &[64])).is_ok()).count();
    assert_eq!(sent, MAX_ANSWERS);
}

/// Returns a `FEATURE_CHANGE` for a guest that can be told a size.
fn features(wanted: [u8; 4], (width, height): (u16, u16)) -> (u32, Vec<u8>) {
    (9, [&wanted[..], &edid(width, height)].concat())
}

#[test]
fn a_guest_is_told_the_size_that_a_viewer_wants_from_version_3_4_on() {
    let mut video = ready();
    assert_eq!(video.prefer(640, 480), Preferred::Deaf, "it shows nothing");
    ask(&mut video, 5, &situation(8, 4, 32, 32, 0));
    assert_eq!([video.prefer(1921, 1080), video.prefer(1920, 1081)], [Preferred::TooLarge; 2]);
    assert_eq!(video.prefer(700, 500), Preferred::Told);
    let sent = drain(&mut video, Duration::ZERO);
    let (message_type, body) = features([0, 0, 0, 1], (700, 500));
    assert_eq!(sent, [message(message_type, &body)]);
    // The list has the size, too, as the default.
    let [(14, body)] = &ask(&mut video, 13, &[64])[..] else { panic!("one answer") };
    assert_eq!((&body[..EDID], &body[EDID..EDID + 3]), (&edid(700, 500)[..], &[9, 0, 0][..]));
    assert_eq!(read::<[u8; 8]>(&body[EDID + 3..]), Some([188, 2, 244, 1, 128, 7, 56, 4]), "700x500, 1920x1080");
    assert_eq!(ask(&mut video, 5, &situation(700, 500, 32, 0, 0)).len(), 1, "it knows");
    assert!(version(&mut video, 3, 4));
    assert_eq!(
        ask(&mut video, 5, &situation(8, 4, 32, 32, 0))[1],
        features([0, 0, 0, 1], (1920, 1080)),
        "another driver"
    );
    assert!(version(&mut video, 3, 3));
    assert_eq!(ask(&mut video, 5, &situation(8, 4, 32, 32, 0))[1], (9, vec![0, 0, 0, 1]));
    assert_eq!(video.prefer(640, 480), Preferred::Deaf);
    let mut large = Video::new(7680, 4320);
    assert_eq!(large.prefer(4096, 100), Preferred::TooLarge, "no EDID can tell that");
}

/// Returns the `dirt` of each `FEATURE_CHANGE` that is sent.
fn told(video: &mut Video) -> Vec<u8> {
    let packets = drain(video, Duration::ZERO);
    packets
        .iter()
        .map(|packet| unwrap(packet).unwrap())
        .filter(|packet| packet[0] == 9)
        .map(|packet| packet[8])
        .collect()
}

#[test]
fn a_guest_reports_what_it_draws_while_somebody_looks() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let mut video = ready();
    let calls = Arc::new(AtomicU32::new(0));
    let watcher = || -> Watcher {
        let calls = calls.clone();
        Box::new(move || {
            calls.fetch_add(1, Ordering::Relaxed);
        })
    };
    let first = video.watch(watcher());
    assert!(told(&mut video).is_empty(), "a guest without a situation has no use for it");
    let location = VramLocation { context: 0.into(), specified: 1, address: VRAM.into() };
    ask(&mut video, 3, location.as_bytes());
    assert_eq!(ask(&mut video, 5, &situation(8, 4, 32, 32, 16))[1], features([1, 1, 1, 1], (1920, 1080)));
    let view = video.look().unwrap();
    assert_eq!((view.first, view.reports, view.damage), (VRAM + 16, Reports::No, vec![Rectangle::of_size(8, 4)]));
    let position = PointerPosition { visible: 0, output: 0, x: 0.into(), y: 0.into() };
    ask(&mut video, 7, position.as_bytes());
    assert_eq!(video.view().unwrap().reports, Reports::Promised, "as Linux answers the request");
    let before = calls.load(Ordering::Relaxed);
    let dirt = Dirt { left: -5, top: 1, right: 7, bottom: i32::MAX };
    ask(&mut video, 10, &[&[0, 2][..], dirt.as_bytes(), dirt.as_bytes()].concat());
    assert_eq!(calls.load(Ordering::Relaxed), before + 1);
    let view = video.look().unwrap();
    let drawn = Rectangle { left: 0, top: 1, right: 7, bottom: i32::MAX as u32 };
    assert_eq!((view.reports, view.damage, video.look().unwrap().damage), (Reports::Made, vec![drawn], vec![]));
    let other = video.watch(watcher());
    video.unwatch(first);
    assert_eq!((told(&mut video), video.facts().watched), (vec![], true), "another one looks");
    video.unwatch(other);
    video.unwatch(other);
    assert_eq!((told(&mut video), video.facts().watched), (vec![0], false));
    ask(&mut video, 10, &[&[0, 1][..], dirt.as_bytes()].concat());
    assert_eq!(calls.load(Ordering::Relaxed), before + 1);
    let again = video.watch(watcher());
    assert_eq!(told(&mut video), [1]);
    assert_eq!(video.look().unwrap().damage, [Rectangle::of_size(8, 4)], "a new viewer has seen nothing");
    video.closed();
    video.unwatch(again);
    assert!(told(&mut video).is_empty(), "the channel is closed");
    let last = video.watch(watcher());
    let before = calls.load(Ordering::Relaxed);
    video.end();
    assert!(calls.load(Ordering::Relaxed) > before && video.is_over(), "who waits learns of the end of the machine");
    video.unwatch(last);
}

/// As hyperv_fb does.
#[test]
fn a_driver_that_answers_each_feature_change_with_a_situation_is_sent_one() {
    let mut video = ready();
    let types = |video: &mut Video| {
        let answers = ask(video, 5, &situation(8, 4, 32, 32, 0));
        answers.into_iter().map(|(message_type, _)| message_type).collect::<Vec<_>>()
    };
    assert_eq!([types(&mut video), types(&mut video)], [vec![6, 9], vec![6]]);
    let watch = video.watch(Box::new(|| {}));
    let position = PointerPosition { visible: 1, output: 0, x: 0.into(), y: 0.into() };
    assert_eq!(told(&mut video), [1]);
    ask(&mut video, 7, position.as_bytes());
    assert_eq!((types(&mut video), video.reports), (vec![6], Reports::Promised));
    ask(&mut video, 10, &[&[0, 1][..], &[0; 16]].concat());
    assert_eq!(video.reports, Reports::Made);
    assert_eq!((types(&mut video), video.reports), (vec![6], Reports::Promised), "it draws anew");
    video.unwatch(watch);
    assert_eq!((told(&mut video), types(&mut video)), (vec![0], vec![6]));
    assert!(version(&mut video, 3, 5));
    assert_eq!((types(&mut video), video.reports), (vec![6, 9], Reports::No), "another driver");
}

proptest! {
    #[test]
    fn a_driver_still_connects_after_random_messages(messages: Vec<(u8, Vec<u8>)>) {
        let mut video = ready();
        for (message_type, body) in messages {
            let _ = video.receive(&message(u32::from(message_type % 17), &body));
            let _ = video.receive(&body);
            for packet in drain(&mut video, Duration::ZERO) {
                prop_assert!(packet.len() <= Video::MAX_PACKET);
            }
        }
        video.attach(&memory());
    video.opened();
        prop_assert!(version(&mut video, 3, 5));
    }

    /// A picture can always be taken, wherever the guest says that it is.
    #[test]
    fn every_address_of_the_screens_memory_yields_a_picture(address: u64, offset: u32, width in 1_u32..64, height in 1_u32..64) {
        let mut video = ready();
        let location = VramLocation { context: 0.into(), specified: 1, address: address.into() };
        ask(&mut video, 3, location.as_bytes());
        ask(&mut video, 5, &situation(width, height, 32, 0, offset));
        if let Some(picture) = video.view().map(|view| view.picture()) {
            prop_assert_eq!(picture.size(), (width, height));
        }
    }
}
