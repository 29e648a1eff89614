use super::*;
use std::thread;

fn panicked(message: &str) -> Event {
    Event::Failed(Failure::Panicked { what: "it".into(), message: message.into() })
}

#[test]
fn every_listener_gets_all_events_since_the_start_and_finishes_with_the_machine() {
    let announcer = Arc::new(Announcer::new("test"));
    announcer.panicked("it", "one".into());
    let mut early = announcer.events();
    let listener = thread::spawn({
        let events = announcer.events();
        move || events.collect::<Vec<_>>()
    });
    assert_eq!(early.wait(Duration::ZERO), Some(panicked("one")));
    assert_eq!(early.wait(Duration::from_millis(1)), None);
    announcer.restarted();
    assert_eq!(early.wait(Duration::MAX), Some(Event::Restarted));
    announcer.over();
    assert_eq!(early.wait(Duration::MAX), None);
    assert_eq!(listener.join().unwrap(), [panicked("one"), Event::Restarted]);
    assert_eq!(announcer.events().count(), 2, "also of a machine that has ended");
}

#[test]
fn events_that_nobody_takes_are_bounded_and_the_oldest_go_first() {
    let announcer = Announcer::new("test");
    let mut events = announcer.events();
    for number in 0..KEPT + 10 {
        announcer.panicked("it", number.to_string());
    }
    assert_eq!(events.wait(Duration::ZERO), Some(panicked("10")));
    announcer.over();
    assert_eq!(events.count(), KEPT - 1);
}
