//! The screen and the keyboard of a running machine, by its commands.

use std::path::Path;
use std::time::Duration;

use super::command::Run;
use super::control::Host;
use crate::common::patience::{grown, holds_within, patience};

#[test]
fn users_type_on_the_keyboard_of_a_running_machine_and_save_its_picture() {
    let mut host = Host::new();
    host.start_halted("mute");
    let refused = host.run(&["type", "mute", "hello"]);
    assert_eq!(refused.code, Some(2), "a machine without a keyboard: {refused:?}");
    assert!(refused.errors.contains("run it with --display none,input=on"), "{refused:?}");
    let cmdline = format!("driver=good {}", patience());
    let refused = host.run(&["screenshot", "mute", "/nowhere"]);
    assert!(refused.code == Some(2) && refused.errors.contains("--display on"), "{refused:?}");
    let last = host.directory.path().join("last.png");
    let last_option = format!("--screenshot-at-end={}", last.display());
    host.start("screen", &["--name", "typed", "--cmdline", &cmdline, "--display", "on", &last_option]);
    host.until("typed", |tree| tree["devices"]["keyboard"]["status"]["state"] == "ready");
    let typed = host.run(&["type", "typed", "Hi-1", "--enter"]);
    assert_eq!(typed.code, Some(0), "{typed:?}");
    host.until("typed", |tree| tree["devices"]["keyboard"]["status"]["sent"] == 12);
    let refused = host.run(&["type", "typed", "ß"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let file = host.directory.path().join("now.png");
    let shot = host.run(&["screenshot", "typed", file.to_str().unwrap()]);
    assert_eq!(shot.code, Some(0), "{shot:?}");
    let shot = host.command(&["screenshot", "typed", "-"]).output().unwrap();
    assert!(shot.status.success() && shot.stdout == std::fs::read(&file).unwrap(), "standard output has the same");
    for (arguments, words) in [(&["--all", "-"][..], "of one machine"), (&["typed", "-", "--json"], "needs a file")] {
        let run = host.run(&[&["screenshot"], arguments].concat());
        assert!(run.code == Some(2) && run.errors.contains(words), "{arguments:?}: {run:?}");
    }
    users_wait_for_the_picture(&host, &file);
    // Escape ends this guest.
    let pressed = host.run(&["type", "typed", "--key", "esc"]);
    assert_eq!(pressed.code, Some(0), "{pressed:?}");
    assert_eq!(host.end(1).0, Some(0));
    let (now, last) = (std::fs::read(file).unwrap(), std::fs::read(last).unwrap());
    assert!(now == last && now[1..4] == *b"PNG", "the picture at the end is the one from before");
}

/// Waits for the saved picture, for the one after `p`, and for texts that are not there.
fn users_wait_for_the_picture(host: &Host, file: &Path) {
    let difference = host.directory.path().join("difference.png");
    let (picture, red) = (format!("picture={}", file.display()), format!("difference={}", difference.display()));
    let wait = |what: &str, seconds: &str| host.run(&["wait", "typed", "--for", what, "--timeout", seconds]);
    let seen = wait(&picture, "60");
    assert_eq!((seen.code, seen.output.trim()), (Some(0), file.to_str().unwrap()), "{seen:?}");
    assert!(host.run(&["type", "typed", "--key", "p"]).code == Some(0));
    host.until("typed", |tree| tree["devices"]["keyboard"]["status"]["waiting"] == 0);
    // The guest inverts 100x40 pixels.
    let look = || wait(&format!("{picture},tolerance=3,{red}"), "0");
    let is_gone =
        |late: &Run| late.code == Some(124) && late.errors.contains("4000 pixels differ, the first at 50, 30");
    assert!(holds_within(grown(Duration::from_secs(60)), || is_gone(&look())), "{:?}", look());
    let late = look();
    assert!(late.errors.contains("difference.png shows them in red"), "{late:?}");
    assert_eq!(std::fs::read(difference).unwrap()[1..4], *b"PNG");
    assert_eq!(wait(&format!("{picture},tolerance=255"), "60").code, Some(0), "everything resembles it");
    assert!(host.run(&["type", "typed", "--key", "p"]).code == Some(0));
    assert_eq!(wait(&picture, "60").code, Some(0), "the old picture comes back");
    let late = wait("screen-text=login:", "0.2");
    assert!(late.code == Some(124) && late.errors.contains("`login:` is not found"), "{late:?}");
    let wrong = wait("picture=/nowhere/a.png", "1");
    assert!(wrong.code == Some(2) && wrong.errors.contains("/nowhere/a.png"), "{wrong:?}");
    let none = host.run(&["wait", "mute", "--for", "screen-text=a"]);
    assert!(none.code == Some(2) && none.errors.contains("--display on"), "{none:?}");
    let clicked = host.run(&["command", "typed", "mouse", "click", r#"{"x": 319, "y": 0}"#]);
    assert_eq!(clicked.code, Some(0), "{clicked:?}");
    let reports = || host.json(&["inspect", "typed"])["devices"]["mouse"]["status"]["sent"].as_u64().unwrap();
    host.until("typed", |tree| tree["devices"]["mouse"]["status"]["waiting"] == 0);
    // At least a move, a press and a release. Moves that wait are merged.
    for options in [&["319", "199"][..], &["0", "0", "--button", "right", "--to", "9,9"]] {
        let before = reports();
        let clicked = host.run(&[&["click", "typed"], options].concat());
        assert_eq!(clicked.code, Some(0), "{clicked:?}");
        host.until("typed", |tree| {
            let mouse = &tree["devices"]["mouse"]["status"];
            mouse["waiting"] == 0 && mouse["sent"].as_u64() >= Some(before + 3)
        });
    }
    let none = host.run(&["click", "mute", "1", "1"]);
    assert!(none.code == Some(2) && none.errors.contains("--display on"), "{none:?}");
}
