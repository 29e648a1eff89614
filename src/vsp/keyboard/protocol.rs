//! The keyboard as a state machine.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::Serialize;
use zerocopy::{FromBytes, IntoBytes};

use super::keys::Key;
use super::layout::{ChosenLayout, Level, Stroke};
use super::wire::{Keystroke, MessageType, ProtocolRequest, ProtocolResponse, VERSION};
use crate::vmbus::vsp::Offer;
use crate::vsp::pipe::State;
use crate::vsp::pipe::provider::Protocol;
use crate::wire::guid::{Guid, interface};

/// Maximum number of characters of typed texts that wait for the guest.
const MAX_TYPED: usize = 1024;

/// Maximum number of keystrokes that wait for the guest: those of as many characters, with Shift pressed and released around each.
/// Those of viewers that find no room are dropped.
const MAX_WAITING: usize = 4 * MAX_TYPED;

/// Time between two characters of a typed text, and between two bursts of keystrokes.
const TYPING: Duration = Duration::from_millis(10);

/// Maximum number of keystrokes that the guest is sent at a time, and before it has read them: a key is pressed and released.
///
/// Linux's evdev keeps some twenty keystrokes for each reader, and drops all of them when there are more. Nobody types so fast by hand,
/// but viewers that type a text by themselves do.
const BURST: usize = 2;

/// The lights of the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Leds {
    /// Scroll Lock.
    pub scroll: bool,
    /// Num Lock.
    pub num: bool,
    /// Caps Lock.
    pub caps: bool,
}

/// The status of the keyboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The state of the channel.
    pub state: State,
    /// The lights, if the guest has ever set them. Linux does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leds: Option<Leds>,
    /// Number of keystrokes that were sent.
    pub sent: u64,
    /// Number of keystrokes that wait for the guest.
    pub waiting: usize,
    /// Number of keystrokes that found no room.
    pub dropped: u64,
    /// Number of messages of the guest that mean nothing.
    pub unknown: u64,
}

/// The reason why a key cannot be pressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The guest does not use the keyboard.
    #[error("the guest does not use the keyboard: it has no driver for it, or has not loaded it yet")]
    NotReady,
    /// The guest reads too slowly.
    #[error("the guest does not read its keyboard: too many keystrokes wait")]
    Full,
    /// No key types the character.
    #[error("no key of the layout {layout} types `{}`; --display ...,layout=NAME names another one", .character.escape_default())]
    Character {
        /// The character.
        character: char,
        /// The layout.
        layout: &'static str,
    },
    /// There is no key with that name.
    #[error(
        "there is no key `{0}`; keys have names like a, enter, f1, ctrl or page-up, and + joins them: ctrl+alt+delete"
    )]
    NoKey(String),
}

/// Keystrokes that belong together, so that no other comes between them.
type Group = Vec<Keystroke>;

/// A character of a typed text.
#[derive(Debug)]
struct Typed {
    group: Group,
    /// The viewer whose clipboard it is from.
    viewer: Option<u64>,
}

/// Called when the guest has set the lights.
type LightsWatcher = Box<dyn Fn(Option<Leds>) + Send>;

/// The keyboard.
#[derive(Default)]
pub struct Keyboard {
    /// The layout that the guest has.
    layout: ChosenLayout,
    state: State,
    /// An answer that is due.
    answer: Option<ProtocolResponse>,
    waiting: VecDeque<Keystroke>,
    /// Characters of typed texts. Each is sent some time after the one before.
    typed: VecDeque<Typed>,
    next_typed: Duration,
    /// The guest has not read all that it was sent.
    is_behind: bool,
    /// Number of keystrokes that were sent since the guest was known to have read all, and when the next burst may begin.
    burst: usize,
    next_burst: Duration,
    pressed: BTreeSet<Key>,
    leds: Option<Leds>,
    watcher: Option<LightsWatcher>,
    sent: u64,
    dropped: u64,
    unknown: u64,
}

/// Appends the codes that the key sends.
fn push(group: &mut Group, key: Key, down: bool) {
    let up = if down { 0 } else { Keystroke::BREAK };
    if key == Key::PAUSE {
        // E1 1D 45: the prefix counts for the first of the two codes.
        group.extend([Keystroke::new(0x1d, Keystroke::E1 | up), Keystroke::new(0x45, up)]);
    } else {
        group.push(Keystroke::new(key.code(), up | if key.is_extended() { Keystroke::E0 } else { 0 }));
    }
}

/// A key that is pressed or released.
type Step = (Key, bool);

/// The modifiers of a level, each with its keys. One of these is enough.
const MODIFIERS: [(Level, &[Key]); 2] =
    [(Level::Shift, &[Key::SHIFT, Key::RIGHT_SHIFT]), (Level::AltGr, &[Key::RIGHT_ALT])];

impl Keyboard {
    /// Creates a keyboard for a guest that has this layout.
    pub fn new(layout: ChosenLayout) -> Self {
        Self { layout, ..Self::default() }
    }

    /// Returns the layout of the guest.
    pub fn layout(&self) -> ChosenLayout {
        self.layout
    }

    /// Returns how a text is typed.
    ///
    /// # Errors
    /// Returns an error if the layout lacks a character.
    pub fn strokes(&self, text: &str) -> Result<Vec<Stroke>, KeyError> {
        let layout = self.layout.name();
        self.layout.strokes(text).map_err(|character| KeyError::Character { character, layout })
    }

    /// Returns the status.
    pub fn facts(&self) -> Facts {
        let waiting = self.waiting.len() + self.typed.iter().map(|typed| typed.group.len()).sum::<usize>();
        let Self { state, leds, sent, dropped, unknown, .. } = *self;
        Facts { state, leds, sent, waiting, dropped, unknown }
    }

    /// Returns `true` if the key is held down.
    pub fn is_pressed(&self, key: Key) -> bool {
        self.pressed.contains(&key)
    }

    /// Presses or releases a key. A key that is pressed again while it is down repeats.
    ///
    /// # Errors
    /// Returns an error if the guest does not use the keyboard, or does not read it.
    pub fn press(&mut self, key: Key, down: bool) -> Result<(), KeyError> {
        if self.state != State::Ready {
            return Err(KeyError::NotReady);
        }
        let mut group = Group::new();
        push(&mut group, key, down);
        // A repeat that waits stands for all that follow: a guest that is slow does not repeat a key for long after its release.
        if down && self.is_pressed(key) && self.waiting.back() == group.last() {
            return Ok(());
        }
        // There is always room to release a key that is down: it had to find room to get there.
        let is_release = !down && self.is_pressed(key);
        if self.waiting.len() + group.len() > MAX_WAITING && !is_release {
            self.dropped += group.len() as u64;
            return Err(KeyError::Full);
        }
        if down {
            self.pressed.insert(key)
        } else {
            self.pressed.remove(&key)
        };
        self.waiting.extend(group);
        Ok(())
    }

    /// Presses keys, given by name, one after the other, and releases them in reverse: `ctrl+alt+delete`.
    ///
    /// # Errors
    /// As [`press`](Self::press), or if there is no such key.
    pub fn press_named(&mut self, keys: &str) -> Result<(), KeyError> {
        let named = |name: &str| Key::named(name).ok_or_else(|| KeyError::NoKey(name.to_owned()));
        let keys = keys.split('+').map(named).collect::<Result<Vec<_>, _>>()?;
        keys.iter().try_for_each(|key| self.press(*key, true))?;
        keys.iter().rev().try_for_each(|key| self.press(*key, false))
    }

    /// Presses or releases a key that means something at a level: Shift and AltGr are pressed or released around it if they are
    /// not as they must be.
    ///
    /// # Errors
    /// As [`press`](Self::press).
    pub fn press_stroke(&mut self, stroke: Stroke, down: bool) -> Result<(), KeyError> {
        if !down {
            return self.press(stroke.key, false);
        }
        let mut steps = Vec::new();
        if let Some((dead, level)) = stroke.after {
            steps.extend(self.at_level(Some(level), &[(dead, true), (dead, false)]));
        }
        steps.extend(self.at_level(stroke.level, &[(stroke.key, true)]));
        // All of it or nothing: no modifier is left as it must not be.
        if self.state == State::Ready && self.waiting.len() + steps.len() > MAX_WAITING {
            self.dropped += steps.len() as u64;
            return Err(KeyError::Full);
        }
        steps.into_iter().try_for_each(|(key, down)| self.press(key, down))
    }

    /// Returns steps with those before and after them that make the modifiers as the level wants them.
    fn at_level(&self, level: Option<Level>, steps: &[Step]) -> Vec<Step> {
        let mut before = Vec::new();
        for (modified, keys) in MODIFIERS.iter().filter(|_| level.is_some()) {
            // Without AltGr, the right Alt key makes a command of another key, and stays as it is.
            if *modified == Level::AltGr && !self.layout.has_alt_gr() {
                continue;
            }
            let held: Vec<_> = keys.iter().copied().filter(|key| self.is_pressed(*key)).collect();
            match (level == Some(*modified), held.is_empty()) {
                (true, true) => before.push((keys[0], true)),
                (false, false) => before.extend(held.into_iter().map(|key| (key, false))),
                _ => {}
            }
        }
        let after = before.iter().rev().map(|(key, down)| (*key, !*down));
        before.iter().copied().chain(steps.iter().copied()).chain(after).collect()
    }

    /// Types a character. Returns `false` if it has to wait for others to be sent.
    ///
    /// # Errors
    /// Returns an error if the guest does not use the keyboard.
    pub fn type_stroke(&mut self, stroke: Stroke) -> Result<bool, KeyError> {
        self.queue(stroke, None)
    }

    /// Types a text of a viewer's clipboard. A character waits while somebody holds Ctrl, Alt or Super, so that it is no command,
    /// and does not care about Shift.
    ///
    /// # Errors
    /// Returns an error, and types nothing, if the guest does not use the keyboard, if another such text is being typed, or if
    /// there is no room.
    pub fn paste(&mut self, viewer: u64, strokes: &[Stroke]) -> Result<(), KeyError> {
        let is_busy = self.typed.iter().any(|typed| typed.viewer.is_some());
        if self.state == State::Ready && (is_busy || self.typed.len() + strokes.len() > MAX_TYPED) {
            return Err(KeyError::Full);
        }
        strokes.iter().try_for_each(|stroke| self.queue(*stroke, Some(viewer)).map(|_| ()))
    }

    /// Types nothing more of a viewer's text.
    pub fn forget(&mut self, viewer: u64) {
        self.typed.retain(|typed| typed.viewer != Some(viewer));
    }

    /// Calls `watcher` with the lights now, and each time that the guest sets them.
    pub fn watch(&mut self, watcher: LightsWatcher) {
        watcher(self.leds);
        self.watcher = Some(watcher);
    }

    fn queue(&mut self, stroke: Stroke, viewer: Option<u64>) -> Result<bool, KeyError> {
        if self.state != State::Ready {
            return Err(KeyError::NotReady);
        }
        if self.typed.len() >= MAX_TYPED {
            return Ok(false);
        }
        let mut group = Group::new();
        let parts =
            stroke.after.map(|(dead, level)| (dead, Some(level))).into_iter().chain([(stroke.key, stroke.level)]);
        for (key, level) in parts {
            let modifiers = MODIFIERS.iter().filter(|(modified, _)| level == Some(*modified)).map(|(_, keys)| keys[0]);
            modifiers.clone().for_each(|modifier| push(&mut group, modifier, true));
            push(&mut group, key, true);
            push(&mut group, key, false);
            modifiers.for_each(|modifier| push(&mut group, modifier, false));
        }
        self.typed.push_back(Typed { group, viewer });
        Ok(true)
    }

    /// Types all of these characters, or none if there is no room.
    ///
    /// # Errors
    /// As [`press`](Self::press).
    pub fn type_strokes(&mut self, strokes: &[Stroke]) -> Result<(), KeyError> {
        if self.typed.len() + strokes.len() > MAX_TYPED {
            return Err(KeyError::Full);
        }
        strokes.iter().try_for_each(|stroke| self.type_stroke(*stroke).map(|_| ()))
    }

    /// Returns `true` if everything was sent, or nothing can be sent any more.
    pub fn is_done(&self) -> bool {
        self.state != State::Ready || self.typed.is_empty() && self.waiting.is_empty()
    }

    /// Returns `true` if the next character has to wait until somebody releases a key.
    fn is_held_back(&self) -> bool {
        let is_pasted = self.typed.front().is_some_and(|typed| typed.viewer.is_some());
        is_pasted && self.pressed.iter().any(|key| Key::COMMANDS.contains(key))
    }

    /// Returns the keystrokes of the next character.
    fn next_typed(&mut self) -> Option<Group> {
        if self.is_held_back() {
            return None;
        }
        let Typed { group, viewer } = self.typed.pop_front()?;
        let held: Vec<_> = [Key::SHIFT, Key::RIGHT_SHIFT].into_iter().filter(|key| self.is_pressed(*key)).collect();
        if viewer.is_none() || held.is_empty() {
            return Some(group);
        }
        let (mut all, mut again) = (Group::new(), Group::new());
        held.iter().for_each(|key| push(&mut all, *key, false));
        held.iter().for_each(|key| push(&mut again, *key, true));
        all.extend(group);
        all.extend(again);
        Some(all)
    }

    /// Returns `true` if another keystroke can be sent, and counts it.
    fn may_send(&mut self, now: Duration) -> bool {
        if now >= self.next_burst {
            self.next_burst = now + TYPING;
            if !self.is_behind {
                self.burst = 0;
            }
        }
        let may = self.burst < BURST;
        self.burst += usize::from(may);
        may
    }

    fn set_leds(&mut self, leds: Option<Leds>) {
        self.leds = leds;
        self.watcher.iter().for_each(|watcher| watcher(leds));
    }

    /// Forgets what was to be sent.
    fn clear(&mut self) {
        self.answer = None;
        self.waiting.clear();
        self.typed.clear();
        self.pressed.clear();
    }
}

impl Protocol for Keyboard {
    const NAME: &'static str = "the keyboard";
    const MAX_PACKET: usize = size_of::<Keystroke>();

    fn offer(&self) -> Offer {
        Offer::new(interface::KEYBOARD, Guid::new(0xd34b2567_b9b6_42b9_8778_0a4ec0b955bf))
    }

    fn opened(&mut self) {
        self.clear();
        self.state = State::Negotiating;
        (self.next_typed, self.next_burst) = (Duration::ZERO, Duration::ZERO);
        (self.is_behind, self.burst) = (false, 0);
    }

    fn closed(&mut self) {
        self.clear();
        self.state = State::Closed;
        self.set_leds(None);
    }

    fn receive(&mut self, payload: &[u8]) -> Result<(), String> {
        let short = || format!("a message to the keyboard has only {} bytes", payload.len());
        let (message_type, rest) = MessageType::read_from_prefix(payload).map_err(|_| short())?;
        match message_type {
            MessageType::PROTOCOL_REQUEST => {
                let (request, _) = ProtocolRequest::read_from_prefix(payload).map_err(|_| short())?;
                let accepted = request.version == VERSION;
                self.clear();
                self.state = if accepted { State::Ready } else { State::Negotiating };
                self.answer =
                    Some(ProtocolResponse { message_type: MessageType::PROTOCOL_RESPONSE, accepted: accepted.into() });
            }
            MessageType::LED_INDICATORS if self.state == State::Ready => {
                let (flags, _) = u16::read_from_prefix(rest).map_err(|_| short())?;
                self.set_leds(Some(Leds { scroll: flags & 1 != 0, num: flags & 2 != 0, caps: flags & 4 != 0 }));
            }
            _ => self.unknown += 1,
        }
        Ok(())
    }

    fn note(&mut self, is_read: bool) {
        self.is_behind = !is_read;
    }

    fn next(&mut self, now: Duration) -> Option<Vec<u8>> {
        if let Some(answer) = self.answer.take() {
            return Some(answer.as_bytes().to_vec());
        }
        if self.waiting.is_empty() && now >= self.next_typed {
            if self.is_behind {
                self.next_typed = now + TYPING;
                return None;
            }
            let group = self.next_typed()?;
            self.waiting.extend(group);
            self.next_typed = now + TYPING;
        }
        if self.waiting.is_empty() || !self.may_send(now) {
            return None;
        }
        let keystroke = self.waiting.pop_front()?;
        self.sent += 1;
        Some(keystroke.as_bytes().to_vec())
    }

    fn deadline(&self) -> Option<Duration> {
        if self.waiting.is_empty() {
            (!self.typed.is_empty() && !self.is_held_back()).then_some(self.next_typed)
        } else {
            Some(self.next_burst)
        }
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
