use proptest::prelude::*;

use super::super::turn::{Desktop, SizeAnswer};
use super::*;

const WHOLE: Rectangle = Rectangle { left: 0, top: 0, right: 65535, bottom: 65535 };

fn rectangle(left: u32, top: u32, right: u32, bottom: u32) -> Rectangle {
    Rectangle { left, top, right, bottom }
}

/// Returns the rectangles that a viewer is sent, `None` if there is nothing to be sent yet.
fn sent(stage: &Stage, number: u64) -> Option<Vec<Rectangle>> {
    let turn = stage.state.lock().turn(number).unwrap();
    turn.map(|turn| turn.rectangles)
}

fn asked(stage: &Stage, number: u64) -> Option<Vec<Rectangle>> {
    stage.want(number, true, WHOLE);
    sent(stage, number)
}

/// Adds a viewer of a picture that is complete.
fn enter(stage: &Stage) -> (u64, (u32, u32)) {
    let entered = stage.enter();
    stage.complete();
    entered
}

#[test]
fn a_picture_is_sent_when_it_is_complete() {
    let stage = Stage::new(64, 64);
    let (number, _) = stage.enter();
    assert_eq!(asked(&stage, number), None);
    stage.put(rectangle(0, 0, 1, 1), &[1, 0, 0, 0]);
    assert_eq!(sent(&stage, number), None);
    stage.complete();
    assert!(sent(&stage, number).is_some());
    stage.resize(30, 30);
    stage.wish(number, |wishes| wishes.resizes = true);
    assert_eq!(asked(&stage, number), Some(vec![]), "the size is news at once");
    assert_eq!(asked(&stage, number), None);
    stage.complete();
    assert!(sent(&stage, number).is_some());
}

#[test]
fn a_viewer_is_sent_what_changes_and_nothing_else() {
    let stage = Stage::new(200, 100);
    let (number, size) = enter(&stage);
    assert_eq!((size, sent(&stage, number)), ((200, 100), None), "nothing is sent that was not asked for");
    assert_eq!(asked(&stage, number), Some(vec![rectangle(0, 0, 200, 100)]));
    assert_eq!(asked(&stage, number), None);
    stage.put(rectangle(70, 65, 71, 66), &[0; 4]);
    assert_eq!(sent(&stage, number), None, "the pixel is as it was");
    stage.put(rectangle(70, 65, 71, 66), &[3, 2, 1, 0xff]);
    assert_eq!(sent(&stage, number), Some(vec![rectangle(70, 65, 71, 66)]));
    assert_eq!(sent(&stage, number), None, "a request is answered once");
    let mut pixels = Vec::new();
    stage.copy(rectangle(69, 65, 71, 66), &mut pixels);
    assert_eq!(pixels, [0, 0x01_0203]);
    stage.put(rectangle(70, 65, 71, 66), &[3, 2, 1, 7]);
    assert_eq!(asked(&stage, number), None, "the fourth byte is no part of the picture");
    stage.want(number, false, rectangle(0, 0, 1, 1));
    assert_eq!(sent(&stage, number), Some(vec![rectangle(0, 0, 64, 64)]), "asked for, changed or not");
}

#[test]
fn viewers_do_not_take_each_others_changes() {
    let stage = Stage::new(64, 64);
    let viewers = [enter(&stage).0, enter(&stage).0];
    assert!(viewers.iter().all(|number| asked(&stage, *number).is_some()));
    stage.put(rectangle(0, 0, 1, 1), &[1, 0, 0, 0]);
    assert!(viewers.iter().all(|number| asked(&stage, *number).is_some()));
    assert!(!stage.leave(viewers[0]) && stage.turn(viewers[0], || {}).is_none());
    assert!(stage.leave(viewers[1]) && stage.is_empty());
}

#[test]
fn a_viewer_that_understands_it_is_told_the_new_size() {
    let stage = Stage::new(200, 100);
    let (old, new) = (enter(&stage).0, enter(&stage).0);
    stage.wish(new, |wishes| wishes.resizes = true);
    assert!(asked(&stage, old).is_some() && asked(&stage, new).is_some());
    stage.resize(100, 300);
    stage.complete();
    stage.want(new, true, WHOLE);
    let Turn { desktop, rectangles, .. } = stage.turn(new, || {}).unwrap();
    assert_eq!((desktop, rectangles), (Some(Desktop { size: (100, 300), answer: None }), vec![]));
    assert_eq!(asked(&stage, new).unwrap(), [rectangle(0, 0, 100, 300)]);
    let shown = [rectangle(0, 0, 100, 100)];
    let outside = [rectangle(100, 0, 200, 64), rectangle(100, 64, 200, 100)];
    assert_eq!(asked(&stage, old), Some([&shown[..], &outside].concat()), "what is outside of the screen is black");
    assert_eq!(asked(&stage, old), None);
}

#[test]
fn the_picture_is_read_when_a_viewer_waits_for_a_change() {
    let stage = Stage::new(64, 64);
    assert!(stage.is_awaited(), "the scanner may go on without viewers");
    let (number, _) = enter(&stage);
    assert!(!stage.is_awaited(), "it has not asked");
    assert!(asked(&stage, number).is_some());
    assert!(!stage.is_awaited(), "it gets its update");
    assert!(sent(&stage, number).is_none() && !stage.is_awaited(), "it has not asked again");
    assert!(asked(&stage, number).is_none() && stage.is_awaited());
    let told = std::cell::Cell::new(0);
    let idle = || {
        told.set(told.get() + 1);
        assert!(stage.is_awaited());
        stage.put(rectangle(1, 1, 2, 2), &[1; 4]);
    };
    assert!(stage.turn(number, idle).is_some());
    assert_eq!(told.get(), 1);
}

#[test]
fn announcements_come_once_and_the_answer_about_a_size_after_the_size() {
    let stage = Stage::new(64, 64);
    let (number, _) = enter(&stage);
    let answer = Some(SizeAnswer::Forwarded);
    let wishes = Wishes { resizes: true, extended: true, keys: true, size: true, answer, ..Wishes::default() };
    stage.wish(number, |own| *own = wishes);
    stage.want(number, true, WHOLE);
    let first = stage.turn(number, || {}).unwrap();
    assert!(first.keys && first.desktop == Some(Desktop { size: (64, 64), answer: None }));
    let second = stage.turn(number, || {}).unwrap();
    assert!(!second.keys && second.desktop == Some(Desktop { size: (64, 64), answer }));
    assert_eq!(stage.turn(number, || {}).unwrap().rectangles.len(), 1, "the request is still to be answered");
}

proptest! {
    /// Whatever is put, a viewer that copies what it is sent has the picture.
    #[test]
    fn a_viewer_finally_has_the_whole_picture(
        width in 1_u32..150, height in 1_u32..150,
        parts in prop::collection::vec((0_u32..200, 0_u32..200, 1_u32..100, any::<[u8; 8]>(), any::<bool>()), 0..20),
    ) {
        let stage = Stage::new(width, height);
        let (number, _) = enter(&stage);
        let mut seen = vec![0xff_ffff_u32; (width * height) as usize];
        let mut look = || {
            for area in asked(&stage, number).unwrap_or_default() {
                let mut pixels = Vec::new();
                stage.copy(area, &mut pixels);
                let lines = pixels.chunks((area.right - area.left) as usize);
                for (y, line) in (area.top..).zip(lines) {
                    let at = (y * width + area.left) as usize;
                    seen[at..at + line.len()].copy_from_slice(line);
                }
            }
        };
        for (left, top, length, pattern, looks) in parts {
            let lines: Vec<u8> = pattern.iter().copied().cycle().take(length as usize * 4 * 3).collect();
            stage.put(rectangle(left, top, left + length, top + 3), &lines);
            if looks {
                look();
            }
        }
        look();
        prop_assert_eq!(&seen, &stage.state.lock().pixels);
    }

    #[test]
    fn a_copy_has_all_its_pixels_wherever_it_is(left in 0_u32..100, top in 0_u32..100, size in (0_u32..100, 0_u32..100)) {
        let stage = Stage::new(50, 50);
        let _ = stage.enter();
        let mut pixels = Vec::new();
        stage.copy(rectangle(left, top, left + size.0, top + size.1), &mut pixels);
        prop_assert_eq!(pixels.len(), (size.0 * size.1) as usize);
    }
}

/// A change of a guest's picture.
#[derive(Clone, Debug)]
enum Change {
    /// Lines move up, or down if it is negative.
    Scroll(i32),
    /// A part gets a colour.
    Fill(Rectangle, u32),
    /// A part gets other pixels, no two lines of which are the same.
    Draw(Rectangle, u32),
}

fn changes() -> impl Strategy<Value = Change> {
    let part = (0_u32..70, 0_u32..150, 1_u32..70, 1_u32..150);
    let part = part.prop_map(|(left, top, width, height)| rectangle(left, top, left + width, top + height));
    prop_oneof![
        (-40_i32..40).prop_map(Change::Scroll),
        (part.clone(), 0_u32..4).prop_map(|(part, colour)| Change::Fill(part, colour)),
        (part, any::<u32>()).prop_map(|(part, seed)| Change::Draw(part, seed & 0xff)),
    ]
}

/// A guest's picture.
struct Guest {
    size: (u32, u32),
    pixels: Vec<u32>,
}

impl Guest {
    fn change(&mut self, change: &Change) {
        let old = self.pixels.clone();
        let (width, height) = self.size;
        for (at, pixel) in (0_u32..).zip(&mut self.pixels) {
            let (x, y) = (at % width, at / width);
            let is_in = |part: &Rectangle| (part.left..part.right).contains(&x) && (part.top..part.bottom).contains(&y);
            match change {
                Change::Scroll(by) => {
                    let from = u32::try_from(y as i32 + by).ok().filter(|from| *from < height);
                    *pixel = from.map_or(0, |from| old[(from * width + x) as usize]);
                }
                Change::Fill(part, colour) if is_in(part) => *pixel = *colour,
                Change::Draw(part, seed) if is_in(part) => *pixel = seed << 16 | y << 8 | x,
                _ => {}
            }
        }
    }

    /// Reads all of it, as the scanner does.
    fn scan(&self, stage: &Stage) {
        let bytes: Vec<u8> = self.pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let screen = Rectangle::of_size(self.size.0, self.size.1);
        if stage.may_scroll(screen.bottom) {
            stage.scroll(screen, &bytes);
        } else {
            stage.put(screen, &bytes);
        }
    }
}

/// A viewer that can copy.
struct Copying {
    number: u64,
    width: u32,
    pixels: Vec<u32>,
}

impl Copying {
    fn take(&mut self, stage: &Stage, turn: &Turn) {
        let stride = self.width as usize;
        if let Some(Scrolled { to, from }) = turn.scrolled {
            let line = |y: u32| y as usize * stride + to.left as usize..y as usize * stride + to.right as usize;
            let lines: Vec<_> = (0..to.bottom - to.top).map(|y| self.pixels[line(from + y)].to_vec()).collect();
            (to.top..).zip(&lines).for_each(|(y, pixels)| self.pixels[line(y)].copy_from_slice(pixels));
        }
        for area in &turn.rectangles {
            let mut pixels = Vec::new();
            stage.copy(*area, &mut pixels);
            for (y, line) in (area.top..).zip(pixels.chunks((area.right - area.left) as usize)) {
                let at = y as usize * stride + area.left as usize;
                self.pixels[at..at + line.len()].copy_from_slice(line);
            }
        }
        stage.taken(self.number);
    }
}

#[test]
fn a_scroll_is_sent_as_one_and_only_once() {
    let mut guest = Guest { size: (100, 192), pixels: vec![0; 100 * 192] };
    let stage = Stage::new(100, 192);
    let (number, _) = enter(&stage);
    stage.wish(number, |wishes| wishes.copies = true);
    guest.change(&Change::Draw(rectangle(0, 0, 100, 192), 1));
    guest.scan(&stage);
    let mut viewer = Copying { number, width: 100, pixels: vec![7; 100 * 192] };
    let turn = |stage: &Stage| {
        stage.want(number, true, WHOLE);
        stage.state.lock().turn(number).unwrap()
    };
    viewer.take(&stage, &turn(&stage).unwrap());
    assert_eq!(viewer.pixels, guest.pixels);
    guest.change(&Change::Scroll(16));
    guest.scan(&stage);
    let scrolled = turn(&stage).unwrap();
    assert_eq!(scrolled.scrolled, Some(Scrolled { to: rectangle(0, 0, 100, 176), from: 16 }));
    assert_eq!(scrolled.rectangles, [rectangle(0, 176, 100, 192)], "only the new lines");
    viewer.take(&stage, &scrolled);
    assert_eq!(viewer.pixels, guest.pixels);
    assert_eq!(turn(&stage), None);
}

proptest! {
    /// A viewer that copies what has scrolled ends with the picture, also if the picture changes while its update is made.
    #[test]
    fn a_viewer_that_copies_ends_with_the_picture(
        steps in prop::collection::vec((changes(), prop::option::of(any::<bool>())), 1..24), area: bool,
    ) {
        let size = (70, 150);
        let mut guest = Guest { size, pixels: vec![0; 70 * 150] };
        guest.change(&Change::Draw(rectangle(0, 0, 70, 150), 1));
        let stage = Stage::new(size.0, size.1);
        let (number, _) = enter(&stage);
        stage.wish(number, |wishes| wishes.copies = true);
        guest.scan(&stage);
        let mut viewer = Copying { number, width: size.0, pixels: vec![0xff_ffff; 70 * 150] };
        let turn = |stage: &Stage, part: Rectangle| {
            stage.want(number, true, part);
            stage.state.lock().turn(number).unwrap()
        };
        let part = if area { WHOLE } else { rectangle(0, 0, 70, 100) };
        for (change, looks) in steps {
            // The picture may change between the decision what is sent and the copy of its pixels.
            let early = looks.filter(|late| *late).and_then(|_| turn(&stage, part));
            guest.change(&change);
            guest.scan(&stage);
            let late = looks.filter(|late| !late).and_then(|_| turn(&stage, part));
            early.iter().chain(&late).for_each(|turn| viewer.take(&stage, turn));
        }
        while let Some(turn) = turn(&stage, WHOLE) {
            viewer.take(&stage, &turn);
        }
        prop_assert_eq!(&viewer.pixels, &guest.pixels);
    }
}
