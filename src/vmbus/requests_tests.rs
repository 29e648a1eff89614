use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

#[derive(Default)]
struct WakeCounter(AtomicUsize);

impl Port for WakeCounter {
    fn signal_guest(&self) {}

    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn offer_subchannels(&self, _count: u16) {}
}

fn port() -> (Arc<WakeCounter>, Arc<dyn Port>) {
    let port = Arc::new(WakeCounter::default());
    (port.clone(), port)
}

#[test]
fn requests_reach_the_open_channel_in_order_and_wake_it() {
    let (wakes, port) = port();
    let requests = Requests::new(2);
    assert_eq!(requests.send(1), Err(Unsent::NotOpen(1)));
    let handler = requests.connect(&port);
    assert_eq!((requests.send(1), requests.send(2), requests.send(3)), (Ok(()), Ok(()), Err(Unsent::Full(3))));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
    assert_eq!((handler.take(), handler.take(), handler.take()), (Some(1), Some(2), None));
    drop(handler);
    assert_eq!(requests.send(1), Err(Unsent::NotOpen(1)));
}

#[test]
fn requests_fail_when_the_channel_is_closed() {
    let (_, port) = port();
    let requests = Requests::new(2);
    let handler = requests.connect(&port);
    let (sender, answer) = mpsc::channel::<()>();
    requests.send(sender).unwrap();
    drop(handler);
    assert_eq!(answer.recv(), Err(mpsc::RecvError));
}

#[test]
fn a_new_handler_gets_no_request_of_the_old_one() {
    let ((_, first), (_, second)) = (port(), port());
    let requests = Requests::new(2);
    let old = requests.connect(&first);
    requests.send(1).unwrap();
    let new = requests.connect(&second);
    assert_eq!((old.take(), new.take()), (None, None));
    drop(old);
    requests.send(2).unwrap();
    assert_eq!(new.take(), Some(2));
}
