//! Takes a device through all orders of the contract's calls.

use std::sync::Arc;

use serde_json::json;

use super::{Call, CommandError, Device, Devices, Lifecycle, Outlet, SavedState, StateError, Value};

/// Number of calls in a row, in every order.
const DEPTH: u32 = 4;

/// Declares a test for each device: `name: expression that makes it;`.
macro_rules! device_contract {
    ($($name:ident: $make:expr;)*) => { $(
        #[test]
        fn $name() {
            crate::device::contract::check(|| $make);
        }
    )* };
}
pub(crate) use device_contract;

/// Checks that the devices that `make` makes keep the contract.
pub fn check<D: Device + 'static>(make: impl Fn() -> Arc<D>) {
    identity_is_sound(&*make());
    joins_a_paused_machine_paused(make());
    let orders = (Call::ALL.len() as u32).pow(DEPTH);
    for order in 0..orders {
        let calls = (0..DEPTH).map(|place| Call::ALL[order as usize / Call::ALL.len().pow(place) % Call::ALL.len()]);
        survives(make(), &calls.collect::<Vec<_>>());
    }
}

fn identity_is_sound(device: &dyn Device) {
    let identity = device.identity();
    assert_eq!(device.identity(), identity, "an identity never changes");
    for word in [&*identity.name, identity.kind] {
        let fits =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "-.".contains(character);
        assert!(!word.is_empty() && word.chars().all(fits), "`{word}` is easy to type");
    }
    for (index, command) in device.commands().iter().enumerate() {
        assert!(!command.help.is_empty(), "`{}` is explained", command.name);
        assert!(
            device.commands()[..index].iter().all(|other| other.name != command.name),
            "`{}` is there once",
            command.name
        );
    }
}

fn joins_a_paused_machine_paused(device: Arc<impl Device + 'static>) {
    let (name, devices) = (device.identity().name, Devices::new(true, Outlet::default()));
    let _registration = devices.add(device).unwrap();
    assert_eq!(state(&devices, &name), Lifecycle::Paused.to_string());
    devices.resume();
    assert_eq!(state(&devices, &name), Lifecycle::Running.to_string());
}

/// Makes the calls, allowed or not, and checks after each that the device is as the contract has it.
fn survives(device: Arc<impl Device + 'static>, calls: &[Call]) {
    let (identity, devices) = (device.identity(), Devices::new(false, Outlet::new(|event| panic!("{event}"))));
    let mut registration = Some(devices.add(device).unwrap());
    let mut expected = Lifecycle::Running;
    for call in calls {
        let next = expected.after(*call);
        match call {
            Call::Pause => devices.pause(),
            Call::Resume => devices.resume(),
            Call::Reset => devices.reset(),
            Call::Save => match devices.save() {
                Ok(saved) if expected == Lifecycle::Removed => assert!(saved.is_empty()),
                Ok(saved) => comes_back(&devices, &saved[0]),
                Err((name, error)) => {
                    assert_eq!(name, identity.name);
                    assert!(error == StateError::NotYet || next.is_err(), "{error}");
                }
            },
            Call::Restore => {
                let foreign = SavedState { kind: "nothing".into(), version: 1, data: Value::Null };
                devices.restore(&identity.name, &foreign).expect_err("the state is another device's");
                let broken = SavedState { kind: identity.kind.into(), version: u32::MAX, data: json!({ "x": -1 }) };
                let before = devices.inspect();
                devices.restore(&identity.name, &broken).expect_err("the state is broken");
                assert!(expected != Lifecycle::Paused || devices.inspect() == before, "a failure changes nothing");
            }
            Call::Remove => drop(registration.take()),
        }
        expected = next.unwrap_or(expected);
        if expected == Lifecycle::Removed {
            assert_eq!(devices.inspect(), json!({}), "{calls:?}");
            return;
        }
        assert_eq!(state(&devices, &identity.name), expected.to_string(), "{calls:?}");
        if expected == Lifecycle::Paused {
            assert_eq!(devices.inspect(), devices.inspect(), "a paused device stands still");
        }
        let unknown = devices.command(&identity.name, "no-such-command", &Value::Null);
        assert!(matches!(unknown, Err(CommandError::Unknown { .. })), "{unknown:?}");
    }
}

/// A saved state can be restored, and the device is then as before.
fn comes_back(devices: &Devices, (name, saved): &(String, SavedState)) {
    let before = devices.inspect();
    let text = serde_json::to_string(saved).unwrap();
    devices.restore(name, &serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(devices.inspect(), before);
}

fn state(devices: &Devices, name: &str) -> Value {
    let tree = devices.inspect();
    let device = tree.get(name).unwrap_or_else(|| panic!("{name} is in {tree}"));
    assert!(device["kind"].is_string(), "{device}");
    device["state"].clone()
}
