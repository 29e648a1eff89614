use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use super::*;

const SHORT: Patience = Patience {
    ping: Duration::from_millis(20),
    silence: Duration::from_millis(200),
    close: Duration::from_millis(200),
};
const LONG: Patience =
    Patience { ping: Duration::from_secs(600), silence: Duration::from_secs(600), close: Duration::from_secs(600) };

/// Begins to carry. Returns the ends of the browser and of the machine.
fn start(patience: Patience) -> (UnixStream, UnixStream, JoinHandle<io::Result<()>>) {
    let (browser, mut near) = UnixStream::pair().unwrap();
    let (machine, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let thread = thread::spawn(move || {
        let descriptor = near.try_clone().unwrap();
        Relay::new(patience, b"first").run(&mut near, descriptor.as_fd(), &far)
    });
    (browser, machine, thread)
}

/// Returns a masked frame whose mask is zero.
fn client(first: u8, content: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | u8::try_from(content.len()).unwrap(), 0, 0, 0, 0][..], content].concat()
}

fn expect(from: &mut UnixStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    from.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn bytes_are_carried_both_ways_until_the_browser_closes() {
    let (mut browser, mut machine, thread) = start(LONG);
    expect(&mut browser, b"\x82\x05first");
    machine.write_all(b"login: ").unwrap();
    expect(&mut browser, b"\x82\x07login: ");
    browser.write_all(&[client(0x81, b"ro"), client(0x89, b"there?"), client(0x82, b"ot")].concat()).unwrap();
    expect(&mut browser, b"\x8a\x06there?");
    expect(&mut machine, b"root");
    browser.write_all(&client(0x88, &[3, 232])).unwrap();
    expect(&mut browser, &[0x88, 2, 3, 232]);
    thread.join().unwrap().unwrap();
    assert_eq!(machine.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_end_of_the_machine_is_told_and_confirmed() {
    let (mut browser, mut machine, thread) = start(LONG);
    machine.write_all(b"bye").unwrap();
    drop(machine);
    expect(&mut browser, b"\x82\x05first\x82\x03bye");
    let mut head = [0; 4];
    browser.read_exact(&mut head).unwrap();
    assert_eq!((head[0], &head[2..]), (0x88, &[3, 232][..]));
    browser.write_all(&client(0x88, &[3, 232])).unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_browser_that_is_gone_without_a_word_is_asked_and_left() {
    let (mut browser, _machine, thread) = start(SHORT);
    expect(&mut browser, b"\x82\x05first\x89\x00");
    thread.join().unwrap().unwrap();
    // One that does not confirm the end of the machine is not waited for either.
    let (_browser, machine, thread) = start(Patience { silence: LONG.silence, ..SHORT });
    drop(machine);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_browser_that_answers_stays() {
    let (mut browser, machine, thread) = start(SHORT);
    expect(&mut browser, b"\x82\x05first");
    for _ in 0..20 {
        expect(&mut browser, b"\x89\x00");
        browser.write_all(&client(0x8a, b"")).unwrap();
    }
    drop(machine);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_browser_that_does_not_read_holds_little() {
    let (mut browser, machine, thread) = start(LONG);
    machine.set_nonblocking(true).unwrap();
    let (mut sent, begun) = (0, Instant::now());
    // The relay takes what it takes. Then nothing goes any more.
    let mut refused = 0;
    while refused < 50 {
        match (&machine).write(&[7; 4096]) {
            Ok(count) => (sent, refused) = (sent + count, 0),
            Err(_) => {
                refused += 1;
                thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(sent < 4 << 20, "{sent} bytes after {:?}", begun.elapsed());
    }
    // Neither do pings, whose answers it does not read, and it goes on where it was when it reads.
    browser.set_nonblocking(true).unwrap();
    let mut pings = 0;
    while pings < 4 << 20 && browser.write(&client(0x89, &[1; 125])).is_ok() {
        pings += 131;
    }
    assert!(pings < 4 << 20);
    browser.set_nonblocking(false).unwrap();
    expect(&mut browser, b"\x82\x05first\x82");
    drop(browser);
    let _ = thread.join().unwrap();
}

#[test]
fn a_machine_that_does_not_read_is_not_the_browsers_silence() {
    let (mut browser, mut machine, thread) = start(SHORT);
    browser.set_nonblocking(true).unwrap();
    let (mut sent, begun) = (0_usize, Instant::now());
    while begun.elapsed() < 2 * SHORT.silence {
        sent += browser.write(&client(0x82, &[7; 94])).unwrap_or(0);
        thread::yield_now();
    }
    machine.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut buffer = [0; 4096];
    let mut read = 0;
    while read < sent / 100 * 94 - 94 {
        let count = machine.read(&mut buffer).unwrap();
        assert!(count > 0, "the relay has ended");
        read += count;
    }
    drop(browser);
    let _ = thread.join().unwrap();
}

/// A transport that reads ahead and gives out single bytes, and keeps what is written until it is flushed.
struct Ahead {
    stream: UnixStream,
    read: Vec<u8>,
    written: Vec<u8>,
}

impl Read for Ahead {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.read.is_empty() {
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer)?;
            self.read.extend(buffer[..count].iter().rev());
        }
        let Some(byte) = self.read.pop() else { return Ok(0) };
        bytes[0] = byte;
        Ok(1)
    }
}

impl Write for Ahead {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.written.is_empty() {
            let count = self.stream.write(&self.written)?;
            self.written.drain(..count);
        }
        Ok(())
    }
}

#[test]
fn an_encrypted_transport_may_read_ahead_and_keep_what_it_is_given() {
    let (mut browser, near) = UnixStream::pair().unwrap();
    let (mut machine, far) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        let descriptor = near.try_clone().unwrap();
        let mut ahead = Ahead { stream: near, read: Vec::new(), written: Vec::new() };
        carry(&mut ahead, descriptor.as_fd(), &far, &[])
    });
    browser.write_all(&[client(0x82, b"a word"), client(0x82, b" and another")].concat()).unwrap();
    expect(&mut machine, b"a word and another");
    machine.write_all(b"an answer").unwrap();
    expect(&mut browser, b"\x82\x09an answer");
    browser.write_all(&client(0x88, b"")).unwrap();
    thread.join().unwrap().unwrap();
}
