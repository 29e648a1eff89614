use super::super::table::Kind;
use super::super::testing::Pair;
use super::super::wire::Status;
use super::*;

fn copy(target: &str, content: &[u8]) -> Copy {
    let source = Box::new(io::Cursor::new(content.to_vec()));
    Copy { target: target.into(), overwrite: true, make_path: false, size: content.len() as u64, source }
}

/// Receives the rest of a file as the guest, after START.
fn receive(pair: &mut Pair) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let (_, body) = pair.sent();
        if let Ok(data) = zerocopy::FromBytes::read_from_bytes(&body) {
            let Data { head, offset, length, fragment, reserved: _ } = data;
            assert_eq!((head.operation, offset.get()), (Operation::DATA, content.len() as u64));
            content.extend_from_slice(&fragment[..length as usize]);
            pair.send_back(Status::SUCCESS);
        } else {
            assert_eq!(body, Head::new(Operation::COMPLETE).as_bytes());
            pair.send_back(Status::SUCCESS);
            return content;
        }
    }
}

#[test]
fn a_file_arrives_whole_whatever_its_length() {
    for length in [0, 1, FRAGMENT - 1, FRAGMENT, FRAGMENT + 1, 5 * FRAGMENT] {
        let content: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
        let mut pair = Pair::connected(Kind::FileCopy);
        pair.request(Request::Copy(copy("/tmp/deep/name", &content)));
        let start: Start = pair.message();
        assert_eq!((start.head.operation, start.size, start.flags), (Operation::START, length as u64, 1));
        assert_eq!((text::get(&start.name), text::get(&start.folder)), ("name".into(), "/tmp/deep/".into()));
        pair.send_back(Status::SUCCESS);
        assert_eq!(receive(&mut pair), content);
        assert_eq!(pair.outcome(), Ok(Answer::Copied(length as u64)));
        assert_eq!(pair.status().details, Details::FileCopy(Facts { files: 1, copying: None }));
    }
}

#[test]
fn a_file_that_exists_is_refused_with_hyper_vs_error() {
    let mut pair = Pair::connected(Kind::FileCopy);
    pair.request(Request::Copy(Copy { overwrite: false, make_path: true, ..copy("/tmp/a", b"x") }));
    assert_eq!(pair.message::<Start>().flags, Start::MAKE_PATH);
    pair.send_back(Status::ALREADY_EXISTS);
    let failure = pair.outcome().unwrap_err();
    assert_eq!((failure.to_string(), &failure), ("the file exists".into(), &Failure::Guest(Status(0x8007_0050))));
    assert_eq!(pair.take(), None, "there is nothing to be cancelled");
}

#[test]
fn a_file_whose_copy_fails_is_removed_from_the_guest() {
    let mut pair = Pair::connected(Kind::FileCopy);
    pair.request(Request::Copy(copy("/tmp/a", &[1; 2 * FRAGMENT])));
    pair.sent();
    pair.send_back(Status::SUCCESS);
    pair.sent();
    assert_eq!(pair.service.request(&pair.now, Request::Copy(copy("/tmp/b", b"x"))), Err(Failure::Busy));
    pair.send_back(Status::DISK_FULL);
    assert!(pair.outcomes().is_empty());
    let head: Head = pair.message();
    assert_eq!(head.operation, Operation::CANCEL);
    pair.send_back(Status::SUCCESS);
    assert_eq!(pair.outcome().unwrap_err().to_string(), "the guest's disk is full");
    pair.request(Request::Copy(copy("/tmp/b", b"x")));
}

#[test]
fn a_copy_can_be_cancelled_at_any_time() {
    for replies in 0..4 {
        let mut pair = Pair::connected(Kind::FileCopy);
        let ticket = pair.request(Request::Copy(copy("/tmp/a", &[1; 20 * FRAGMENT])));
        for _ in 0..replies {
            pair.sent();
            pair.send_back(Status::SUCCESS);
        }
        if replies > 0 {
            pair.sent();
        }
        pair.service.cancel(ticket);
        if replies > 0 {
            assert!(pair.outcomes().is_empty(), "the guest has an open file");
            pair.send_back(Status::SUCCESS);
            assert_eq!(pair.message::<Head>().operation, Operation::CANCEL);
            pair.send_back(Status::FAIL);
        }
        assert_eq!(pair.outcomes(), [(ticket, Err(Failure::Cancelled))]);
        assert_eq!(pair.take(), None);
    }
}

#[test]
fn a_source_that_fails_or_becomes_shorter_ends_the_copy() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable is out"))
        }
    }
    let short: Box<dyn Read + Send> = Box::new(&[1; 10][..]);
    for (source, expected) in [(short, "it has become shorter"), (Box::new(Broken), "the cable is out")] {
        let mut pair = Pair::connected(Kind::FileCopy);
        pair.request(Request::Copy(Copy { source, ..copy("/tmp/a", &[0; 11]) }));
        pair.sent();
        pair.send_back(Status::SUCCESS);
        assert_eq!(pair.message::<Head>().operation, Operation::CANCEL);
        pair.send_back(Status::SUCCESS);
        assert_eq!(pair.outcome(), Err(Failure::Source(expected.into())));
    }
}

#[test]
fn the_copy_is_cancelled_for_a_guest_that_does_not_answer() {
    let mut pair = Pair::connected(Kind::FileCopy);
    pair.request(Request::Copy(copy("/tmp/a", b"x")));
    pair.sent();
    pair.wait(PATIENCE);
    assert_eq!(pair.message::<Head>().operation, Operation::CANCEL);
    pair.wait(PATIENCE);
    assert_eq!(pair.outcome(), Err(Failure::NoAnswer(PATIENCE)));
    pair.request(Request::Copy(copy("/tmp/a", b"x")));
    pair.service.closed();
    assert_eq!(pair.outcome(), Err(Failure::Closed));
}

#[test]
fn invalid_paths_in_the_guest_are_refused() {
    let refuse = |target: &str| copy(target, b"").start().unwrap_err().to_string();
    assert_eq!(refuse("name"), "'name' is not a path in the guest; write it like /folder/file");
    assert_eq!(refuse("/tmp/"), "'/tmp/' has no file name");
    assert_eq!(refuse("/tmp/.."), "'/tmp/..' has no file name");
    assert!(refuse(&format!("/{}", "x".repeat(260))).contains("at most 259 bytes"));
    // 130 characters of 2 bytes: Linux would cut the name off.
    assert!(refuse(&format!("/{}", "ü".repeat(130))).contains("at most 259 bytes"));
    assert_eq!(refuse("/a\0b/c"), "the folder contains a zero character");
    let windows = copy("C:\\Temp\\a.txt", b"").start().unwrap();
    assert_eq!((text::get(&windows.folder), text::get(&windows.name)), ("C:\\Temp\\".into(), "a.txt".into()));
    let root = copy("/a", b"").start().unwrap();
    assert_eq!(text::get(&root.folder), "/");
}

#[test]
fn progress_counts_the_bytes_that_the_guest_has_confirmed() {
    let mut pair = Pair::connected(Kind::FileCopy);
    pair.request(Request::Copy(copy("/tmp/a", &[1; FRAGMENT + 10])));
    for copied in [0, 0, FRAGMENT as u64] {
        let progress = Progress { target: "/tmp/a".into(), copied_bytes: copied, total_bytes: 6154 };
        assert_eq!(pair.status().details, Details::FileCopy(Facts { files: 0, copying: Some(progress) }));
        pair.sent();
        pair.send_back(Status::SUCCESS);
    }
}
