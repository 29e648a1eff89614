use super::*;
use crate::device::contract::device_contract;
use crate::device::{CommandHelp, Floor};
use std::sync::mpsc;

/// A device that records its calls. Its state is a number.
struct Recorder {
    name: &'static str,
    floor: Floor,
    calls: Mutex<Vec<String>>,
    number: Mutex<u64>,
    journal: Option<mpsc::Sender<String>>,
}

impl Recorder {
    fn new(name: &'static str, floor: Floor) -> Arc<Self> {
        Arc::new(Self { name, floor, calls: Mutex::default(), number: Mutex::new(1), journal: None })
    }

    fn telling(name: &'static str, floor: Floor, journal: &mpsc::Sender<String>) -> Arc<Self> {
        let journal = Some(journal.clone());
        Arc::new(Self { name, floor, calls: Mutex::default(), number: Mutex::new(1), journal })
    }

    fn note(&self, call: &str) {
        self.calls.lock().push(call.to_owned());
        self.journal.iter().for_each(|journal| journal.send(format!("{call} {}", self.name)).unwrap());
    }
}

impl Device for Recorder {
    fn identity(&self) -> Identity {
        Identity::new(self.name, "recorder", self.floor)
    }

    fn reset(&self) {
        self.note("reset");
        *self.number.lock() = 0;
    }

    fn pause(&self) {
        self.note("pause");
    }

    fn resume(&self) {
        self.note("resume");
    }

    fn save(&self) -> Result<SavedState, StateError> {
        Ok(SavedState { kind: "recorder".into(), version: 1, data: json!(*self.number.lock()) })
    }

    fn restore(&self, state: &SavedState) -> Result<(), StateError> {
        if state.version != 1 {
            return Err(StateError::Version { found: state.version, known: 1 });
        }
        let number = state.data.as_u64().ok_or_else(|| StateError::Invalid("it is no number".into()))?;
        *self.number.lock() = number;
        Ok(())
    }

    fn inspect(&self) -> Value {
        json!({ "number": *self.number.lock() })
    }

    fn commands(&self) -> &'static [CommandHelp] {
        &[CommandHelp { name: "set", help: "Sets the number." }, CommandHelp { name: "fail", help: "Panics." }]
    }

    fn command(&self, name: &str, arguments: &Value) -> Result<Value, CommandError> {
        match name {
            "set" => {
                let number = arguments.as_u64().ok_or_else(|| CommandError::Arguments("give a number".into()))?;
                Ok(json!(std::mem::replace(&mut *self.number.lock(), number)))
            }
            "fail" => panic!("as told"),
            _ => Err(CommandError::unknown(name, self.commands())),
        }
    }
}

/// A device with only the required methods.
struct Plain;

impl Device for Plain {
    fn identity(&self) -> Identity {
        Identity::new("plain", "plain", Floor::Host)
    }

    fn inspect(&self) -> Value {
        Value::Null
    }
}

device_contract! {
    every_call_of_a_device_keeps_the_contract: Recorder::new("recorder0", Floor::Provider);
    a_device_without_calls_keeps_the_contract: Arc::new(Plain);
}

fn calls(recorder: &Recorder) -> Vec<String> {
    std::mem::take(&mut *recorder.calls.lock())
}

#[test]
fn devices_pause_from_the_top_floor_down_and_resume_from_the_bottom_up() {
    let (sender, journal) = mpsc::channel();
    let devices = Devices::default();
    let floors = [("b", Floor::Bus), ("p", Floor::Provider), ("h", Floor::Host), ("q", Floor::Provider)];
    let added = floors.map(|(name, floor)| devices.add(Recorder::telling(name, floor, &sender)).unwrap());
    devices.pause();
    assert_eq!(journal.try_iter().collect::<Vec<_>>(), ["pause p", "pause q", "pause b", "pause h"]);
    devices.resume();
    assert_eq!(journal.try_iter().collect::<Vec<_>>(), ["resume h", "resume b", "resume q", "resume p"]);
    drop(added);
    assert_eq!(devices.inspect(), json!({}));
}

#[test]
fn no_call_is_made_twice_to_a_device() {
    let (devices, recorder) = (Devices::default(), Recorder::new("a", Floor::Bus));
    let _added = devices.add(recorder.clone()).unwrap();
    devices.resume();
    assert_eq!(calls(&recorder), Vec::<String>::new());
    devices.pause();
    devices.pause();
    devices.reset();
    devices.resume();
    devices.resume();
    assert_eq!(calls(&recorder), ["pause", "reset", "resume"]);
}

#[test]
fn a_device_that_joins_a_paused_machine_is_paused_first() {
    let (devices, recorder) = (Devices::new(true, Outlet::default()), Recorder::new("a", Floor::Bus));
    let _added = devices.add(recorder.clone()).unwrap();
    assert_eq!(calls(&recorder), ["pause"]);
    devices.resume();
    assert_eq!(calls(&recorder), ["resume"]);
}

#[test]
fn devices_are_found_by_name_and_kind() {
    let devices = Devices::default();
    let first = devices.add(Recorder::new("a", Floor::Bus)).unwrap();
    let _second = devices.add(Recorder::new("b", Floor::Bus)).unwrap();
    assert_eq!(devices.add(Recorder::new("a", Floor::Host)).unwrap_err(), AddError("a".into()));
    assert_eq!(devices.of_kind("recorder"), ["a", "b"]);
    assert_eq!(devices.of_kind("plain"), Vec::<String>::new());
    assert_eq!(devices.find("b").unwrap().identity().name, "b");
    drop(first);
    assert!(devices.find("a").is_none());
    let _again = devices.add(Recorder::new("a", Floor::Host)).unwrap();
}

#[test]
fn commands_reach_their_device_and_errors_list_the_alternatives() {
    let devices = Devices::default();
    let _added = devices.add(Recorder::new("a", Floor::Bus)).unwrap();
    assert_eq!(devices.command("a", "set", &json!(5)), Ok(json!(1)));
    assert_eq!(devices.inspect()["a"]["number"], 5);
    let error = |device, name| devices.command(device, name, &Value::Null).unwrap_err().to_string();
    assert_eq!(error("b", "set"), "there is no device `b`; the devices are `a`");
    assert_eq!(error("a", "get"), "there is no command `get`; the device takes `set`, `fail`");
    assert_eq!(error("a", "set"), "give a number");
}

#[test]
fn a_panic_in_a_device_is_an_event_and_the_device_stays_usable() {
    let (sender, events) = mpsc::channel();
    let devices = Devices::new(false, Outlet::new(move |event| sender.send(event).unwrap()));
    let _added = devices.add(Recorder::new("a", Floor::Bus)).unwrap();
    let error = devices.command("a", "fail", &Value::Null).unwrap_err();
    assert!(error.to_string().contains("as told"), "{error}");
    let event = events.recv().unwrap();
    assert_eq!(event.to_string(), r#"a: panicked {"message":"as told"}"#);
    assert_eq!(devices.command("a", "set", &json!(2)), Ok(json!(1)));
}

#[test]
fn states_are_saved_by_name_while_the_machine_is_paused() {
    let devices = Devices::default();
    let _added = [("a", Floor::Bus), ("b", Floor::Provider)]
        .map(|(name, floor)| devices.add(Recorder::new(name, floor)).unwrap());
    let (name, error) = devices.save().unwrap_err();
    assert_eq!((name.as_str(), error.to_string().as_str()), ("b", "a device that is running cannot be saved"));
    devices.pause();
    devices.command("a", "set", &json!(7)).unwrap();
    let saved = devices.save().unwrap();
    assert_eq!(saved.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["b", "a"]);
    devices.command("a", "set", &json!(8)).unwrap();
    devices.restore("a", &saved[1].1).unwrap();
    assert_eq!(devices.inspect()["a"]["number"], 7);
    let error = devices.restore("c", &saved[1].1).unwrap_err();
    assert_eq!(error.to_string(), "the state is invalid: there is no device `c`");
}
