//! Keyboard and mouse with the guest image `screen`: drivers in C that follow the protocol, and others that violate it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use viridian::Builder;
use viridian::internals::screen::{MouseState, State};
use viridian::machine::{End, Event, Machine, ScreenError};

use super::command::image;
use crate::common::patience::{grown, patience};

fn start(options: &str, cmdline: &str) -> Machine {
    let builder = Builder::new().kernel(image("screen")).cmdline(format!("{cmdline} {}", patience())).display(options);
    builder.capture_console().timeout(grown(Duration::from_secs(120))).start().unwrap()
}

#[test]
fn a_guest_in_c_reads_keyboard_and_mouse() {
    let machine = start("none,input=on", "driver=good");
    let expect = |text: &str| {
        let output = machine.console().unwrap().wait_for(text, grown(Duration::from_secs(60)));
        output.unwrap_or_else(|missing| panic!("{missing}"));
    };
    expect("ready\n");
    let screen = machine.screen();
    screen.press("ctrl+alt+delete").unwrap();
    let keys = ["1d flags 0", "38 flags 0", "53 flags 4", "53 flags 6", "38 flags 2", "1d flags 2"];
    keys.iter().for_each(|key| expect(&format!("key {key}\n")));
    screen.type_text("A\n").unwrap();
    let keys = ["2a flags 0", "1e flags 0", "1e flags 2", "2a flags 2", "1c flags 0", "1c flags 2"];
    keys.iter().for_each(|key| expect(&format!("key {key}\n")));
    machine.command("mouse", "point", &json!({ "x": 0, "y": 599, "of": [800, 600] })).unwrap();
    expect("mouse 0 32767 buttons 0 wheel 0\n");
    let point = json!({ "x": 799, "y": 0, "of": [800, 600], "buttons": 5, "wheel": -2 });
    machine.command("mouse", "point", &point).unwrap();
    expect("mouse 32767 0 buttons 5 wheel -2\n");
    let status = &machine.inspect()["devices"]["keyboard"]["status"];
    assert_eq!(status["leds"], json!({ "scroll": false, "num": false, "caps": true }), "{status}");
    screen.press("esc").unwrap();
    let output = machine.console().unwrap().clone();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}\n{}", String::from_utf8_lossy(&output.take()));
}

#[test]
fn a_picture_that_a_guest_in_c_draws_is_on_the_screenshot() {
    let builder = Builder::new().kernel(image("screen")).cmdline(format!("driver=good {}", patience()));
    let machine = builder.display("on,size=800x600").capture_console().start().unwrap();
    machine.console().unwrap().wait_for("ready\n", grown(Duration::from_secs(60))).unwrap();
    let picture = machine.screen().picture().unwrap();
    assert_eq!(picture.size(), (320, 200));
    for (x, y) in (0..200).flat_map(|y| (0..320).map(move |x| (x, y))) {
        assert_eq!(picture.pixel(x, y), Some([x as u8, y as u8, (x ^ y) as u8]), "{x}, {y}");
    }
    let file = std::env::temp_dir().join(format!("viridian-screen-{}.png", std::process::id()));
    let size = machine.command("screen", "screenshot", &file.to_str().unwrap().into());
    let png = std::fs::read(&file);
    machine.screen().wait_for_picture(&file, 0, Duration::ZERO).unwrap();
    machine.screen().press("p").unwrap();
    let missing = loop {
        if let Err(missing) = machine.screen().wait_for_picture(&file, 0, Duration::ZERO) {
            break missing;
        }
    };
    assert!(missing.to_string().contains("pixels differ, the first at "), "{missing}");
    let ScreenError::NotSeen { difference: Some(difference), .. } = missing else { panic!("{missing}") };
    assert_eq!((difference.size(), difference.pixel(0, 0)), ((320, 200), Some([0; 3])));
    machine.screen().press("p").unwrap();
    machine.screen().wait_for_picture(&file, 0, grown(Duration::from_secs(60))).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!((size, &png.unwrap()[1..4]), (Ok(json!([320, 200])), &b"PNG"[..]));
    let status = machine.inspect()["devices"]["screen"]["status"].clone();
    for (command, argument) in
        [("screenshot", json!("/nowhere/file.png")), ("screenshot", json!(7)), ("paint", json!(null))]
    {
        assert!(machine.command("screen", command, &argument).is_err(), "{command}");
    }
    assert_eq!((&status["version"], &status["vram-address"]), (&json!("3.5"), &json!(0xf800_0000_u32)), "{status}");
    let expect = |text: &str| {
        let output = machine.console().unwrap().wait_for(text, grown(Duration::from_secs(60)));
        output.unwrap_or_else(|missing| panic!("{missing}"));
    };
    machine.screen().click((160, 199), 2).unwrap();
    [0, 2, 0].iter().for_each(|buttons| expect(&format!("mouse 16435 32767 buttons {buttons} wheel 0\n")));
    machine.screen().drag((0, 0), (319, 0), 1).unwrap();
    ["0 0 buttons 0", "0 0 buttons 1", "32767 0 buttons 0"]
        .iter()
        .for_each(|at| expect(&format!("mouse {at} wheel 0\n")));
    machine.screen().move_to((319, 199)).unwrap();
    expect("mouse 32767 32767 buttons 0 wheel 0\n");
    machine.screen().scroll((0, 199), -2).unwrap();
    expect("mouse 0 32767 buttons 0 wheel -2\n");
    assert_eq!(machine.screen().size(), Ok((320, 200)));
    machine.screen().press("r").unwrap();
    machine.screen().wait_for_size((200, 100), grown(Duration::from_secs(60))).unwrap();
    let other = machine.screen().wait_for_size((320, 200), Duration::ZERO).unwrap_err().to_string();
    assert_eq!(other, "0 seconds are over: the screen has 200x100 pixels");
    let mut events = machine.events();
    let is_new_size = |event: &Event| matches!(event, Event::Device(event) if event.details == json!({ "width": 200, "height": 100 }));
    assert!(events.any(|event| is_new_size(&event)), "the event comes, soon");
    machine.screen().press("esc").unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

#[test]
fn a_large_screen_has_memory_above_4_gib() {
    let machine = start("on,size=7680x4320", "driver=good large");
    machine.console().unwrap().wait_for("ready\n", grown(Duration::from_secs(60))).unwrap();
    let status = machine.inspect()["devices"]["screen"]["status"].clone();
    assert_eq!(status["vram-address"].as_u64(), Some(1 << 32), "above the memory: {status}");
    let picture = machine.screen().picture().unwrap();
    assert_eq!((picture.size(), picture.pixel(200, 100)), ((320, 200), Some([200, 100, 200 ^ 100])));
    machine.screen().press("esc").unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

#[test]
fn viewers_may_come_and_leave_at_any_time_while_a_guest_draws() {
    let machine = start("on", "driver=good");
    let (screen, console, is_over) = (machine.screen(), machine.console().unwrap(), AtomicBool::new(false));
    let ready = thread::scope(|scope| {
        // The guest is told of each that is the first to come or the last to leave.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = screen.wait_for_text("", Duration::ZERO);
            }
        });
        let ready = console.wait_for("ready\n", grown(Duration::from_secs(60)));
        is_over.store(true, Ordering::Relaxed);
        ready
    });
    let output = ready.unwrap_or_else(|missing| panic!("{missing}"));
    let changes = String::from_utf8_lossy(&output).matches("reports ").count();
    assert!(changes > 0, "{}", String::from_utf8_lossy(&output));
    screen.press("esc").unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

#[test]
fn drivers_that_violate_the_protocol_do_not_affect_others_and_may_reconnect() {
    let machine = start("on", "checks=quiet");
    let failures = machine.events().filter(|event| matches!(event, Event::Failed(_))).count();
    let output = machine.console().unwrap().take();
    let (keyboard, mouse) = machine.screen().facts().unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::Exited(0)), "{end}\n{}", String::from_utf8_lossy(&output));
    assert_eq!((keyboard.state, mouse.state), (State::Closed, MouseState::Closed));
    assert_eq!(failures, 6 + 6 + 1, "a packet that violates the framing ends the service of its channel");
}

#[test]
fn a_machine_has_no_keyboard_unless_it_is_asked_for() {
    let machine = Builder::new().kernel(image("hello")).start().unwrap();
    assert!(machine.inspect()["devices"].get("keyboard").is_none());
    assert!(machine.screen().press("a").unwrap_err().to_string().contains("--display none,input=on"));
    machine.wait();
    let error = Builder::new().kernel(image("hello")).display("onn").start().err().unwrap().to_string();
    assert!(error.contains("--display") && error.contains("did you mean `on`?"), "{error}");
}
