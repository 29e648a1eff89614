use super::super::tests::typed_text as typed;
use super::super::{Console, ConsoleConfig};
use super::*;
use crate::patience::grown;
use std::fs;
use std::os::unix::net::UnixListener;

fn open(path: &Path) -> Result<Console, ConsoleError> {
    Console::open(&ConsoleConfig::Unix(path.into()), |event| panic!("{event:?}"))
}

fn print(console: &Console, text: &str) {
    console.output().write_all(text.as_bytes()).unwrap();
}

fn read(stream: &mut UnixStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.set_read_timeout(Some(grown(Duration::from_secs(30)))).unwrap();
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn clients_connect_one_after_another_and_get_earlier_output() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console");
    let console = open(&path).unwrap();
    print(&console, "early ");
    let mut first = UnixStream::connect(&path).unwrap();
    let mut second = UnixStream::connect(&path).unwrap();
    assert_eq!(read(&mut first, 6), "early ");
    print(&console, "one");
    assert_eq!(read(&mut first, 3), "one");
    first.write_all(b"typed").unwrap();
    assert_eq!(typed(&console, 5), "typed");
    assert!(console.finish(None));
    drop(first);
    second.write_all(b"too").unwrap();
    assert_eq!(typed(&console, 3), "too");
    print(&console, "two");
    assert_eq!(read(&mut second, 3), "two");
    drop(console);
    assert_eq!(second.read(&mut [0]).unwrap(), 0, "the client sees the end");
    assert!(!path.exists());
}

#[test]
fn all_bytes_that_a_client_sent_before_it_disconnected_arrive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console");
    let console = open(&path).unwrap();
    let text = "0123456789".repeat(10_000);
    let client = std::thread::spawn({
        let (path, text) = (path.clone(), text.clone());
        move || UnixStream::connect(path).unwrap().write_all(text.as_bytes()).unwrap()
    });
    // The guest is slow, so the input and the socket's buffer fill up.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(typed(&console, text.len()), text);
    client.join().unwrap();
    print(&console, "next");
    assert_eq!(read(&mut UnixStream::connect(&path).unwrap(), 4), "next");
}

#[test]
fn a_client_that_only_listens_stays_connected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console");
    let console = open(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"x").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(typed(&console, 1), "x");
    print(&console, "still");
    assert_eq!(read(&mut client, 5), "still");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the file outlives its listener");
    let console = open(&path).unwrap();
    let error = open(&path).err().unwrap().to_string();
    assert!(error.contains("another process listens there"), "{error}");
    UnixStream::connect(&path).unwrap();
    drop(console);
    assert!(!path.exists());
}

#[test]
fn only_our_own_socket_file_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console");
    let console = open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "somebody else's").unwrap();
    drop(console);
    assert!(path.exists());
    let error = open(&path).err().unwrap().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
}

#[test]
fn the_error_for_an_unusable_socket_path_has_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &str| open(&directory.path().join(path)).err().unwrap().to_string();
    assert!(open("missing/console").contains("create the directory"));
    assert!(open(&"x".repeat(200)).contains("shorter path"));
}
