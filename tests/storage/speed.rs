//! The speed of a channel's worker, compared with plain reads of the same file. Run it in a release build:
//! `cargo test --release --test storage -- --ignored --nocapture speed`

use std::os::unix::fs::FileExt;
use std::time::Instant;

use viridian::internals::storage::controllers;
use viridian::vsp::storage::Cache;
use viridian::vsp::storage::DiskConfig;

use crate::target::Initiator;

const COUNT: u32 = 50_000;

#[test]
#[ignore = "a measurement, of a release build: cargo test --release --test storage -- --ignored --nocapture speed"]
fn speed_of_small_reads() {
    let image = tempfile::NamedTempFile::new().expect("a file");
    image.as_file().write_all_at(&vec![1; 64 << 20], 0).expect("room");
    for cache in [Cache::Writeback, Cache::None] {
        let config = DiskConfig { path: image.path().into(), cache, readonly: Some(true), ..DiskConfig::default() };
        let controller = controllers(&[config], 0).expect("a disk").remove(&0).expect("a controller");
        let mut guest = Initiator::new(controller, true);
        guest.negotiate();
        for depth in [1, 32] {
            let start = Instant::now();
            guest.read_blocks(COUNT, depth);
            let took = start.elapsed();
            println!("{cache:?}, depth {depth}: {:.0} reads a second", f64::from(COUNT) / took.as_secs_f64());
        }
    }
    let start = Instant::now();
    let mut bytes = [0; 4096];
    for number in 0..COUNT {
        image.as_file().read_exact_at(&mut bytes, u64::from(number % 16384) * 4096).expect("a read");
    }
    println!("pread of the cached file: {:.0} a second", f64::from(COUNT) / start.elapsed().as_secs_f64());
}
