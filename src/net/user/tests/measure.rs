//! The throughput of the NAT: cargo test --release --lib -- --ignored --nocapture measure

use super::client::Guest;
use super::*;

/// Creates a guest that accepts frames without segmentation, so that the test mostly measures the network and not the guest.
#[test]
#[ignore = "a measurement, of a release build: cargo test --release --lib -- --ignored --nocapture measure"]
fn measure_a_download_and_an_upload() {
    const LENGTH: usize = 1 << 30;
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let block = vec![7; 1 << 20];
        (0..LENGTH / block.len()).for_each(|_| stream.write_all(&block).unwrap());
        drop(stream);
        let (mut stream, _) = listener.accept().unwrap();
        let mut block = block;
        while stream.read(&mut block).unwrap() > 0 {}
        stream.write_all(b"done").unwrap();
    });
    let queue = User::open(network(None), &[], 1).unwrap().remove(0);
    let mut guest = Guest::with_frames_of(62_000, queue);
    let begin = Instant::now();
    let handle = guest.connect(gateway(port));
    let mut received = 0;
    while received < LENGTH {
        guest.run("a download", |guest| {
            let socket = guest.socket(handle);
            let before = received;
            while socket.can_recv() {
                received += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
            }
            (received > before).then_some(())
        });
    }
    eprintln!("download: {:.0} MB/s", LENGTH as f64 / 1e6 / begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let handle = guest.connect(gateway(port));
    for _ in 0..LENGTH >> 20 {
        guest.write_all(handle, &[7; 1 << 20]);
    }
    guest.socket(handle).close();
    assert_eq!(guest.read_to_end(handle), b"done");
    eprintln!("upload: {:.0} MB/s", LENGTH as f64 / 1e6 / begin.elapsed().as_secs_f64());
}
