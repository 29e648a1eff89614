//! Fuzzing of qcow2 images: randomly damaged images are opened and used in a child process, which must survive. Some are damaged
//! while they are in use.
//!
//! `VIRIDIAN_MUTATIONS=50000 cargo test --lib a_damaged_image` tries more images.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;
use crate::block::BackingFiles;
use crate::patience::receive_within;

/// Number of images.
const MUTATIONS: u64 = 2000;
/// Memory limit of the child, in bytes. An image of a few MiB needs a fraction of it.
const MEMORY: u64 = 3 << 30;
/// Time limit for one image, which normally takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Environment variables for the child: the folder of the images, and the range of image numbers.
const FOLDER: &str = "VIRIDIAN_FUZZ_FOLDER";
const RANGE: &str = "VIRIDIAN_FUZZ_RANGE";

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// Creates an image of each kind, with data, holes, compressed clusters or snapshots in it.
fn make_images(workshop: &Workshop) {
    let data: Vec<u8> = (0..1 << 19).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut raw = vec![0; 4 << 20];
    raw[..data.len()].copy_from_slice(&data);
    raw[3 << 20..][..1 << 16].fill(7);
    fs::write(workshop.path("data.raw"), raw).expect("room");
    let kinds = [
        ("plain", ""),
        ("old", "compat=0.10"),
        ("tiny", "cluster_size=512"),
        ("tiny-old", "compat=0.10,cluster_size=512"),
        ("small", "cluster_size=4096,refcount_bits=64"),
        ("large", "cluster_size=2M"),
        ("bit", "refcount_bits=1"),
        ("bits", "refcount_bits=2,cluster_size=1024"),
        ("lazy", "lazy_refcounts=on"),
        ("full", "preallocation=metadata"),
        ("extended", "extended_l2=on"),
    ];
    for (name, options) in kinds {
        let (data, half) = (format!("{name}.qcow2"), format!("{name}-half.qcow2"));
        let options: &[&str] = if options.is_empty() { &[] } else { &["-o", options] };
        workshop.qemu_img(&[&["convert", "-O", "qcow2"], options, &["data.raw", &data]].concat());
        if name != "extended" && name != "full" {
            workshop.qemu_img(&[&["convert", "-c", "-O", "qcow2"], options, &["data.raw", &half]].concat());
        }
    }
    workshop.qemu_img(&["convert", "-O", "qcow2", "data.raw", "snapshot.qcow2"]);
    workshop.qemu_img(&["snapshot", "-c", "before", "snapshot.qcow2"]);
    workshop.qemu_img(&["create", "-q", "-f", "qcow2", "-b", "plain.qcow2", "-F", "qcow2", "over.qcow2"]);
    workshop.qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        "compat=0.10",
        "-b",
        "data.raw",
        "-F",
        "raw",
        "over-old.qcow2",
    ]);
    workshop.qemu_img(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "huge.qcow2", "60G"]);
    workshop.qemu_img(&["create", "-q", "-f", "qcow2", "empty.qcow2", "4M"]);
}

fn word(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = bytes.get(at..at + length).unwrap_or(&[]);
    field.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Damages an image in one place: mostly fields and table entries, with values that a reader may act on.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let size = bytes.len() as u64;
    let cluster = 1_u64 << word(bytes, 20, 4).clamp(9, 21);
    let clusters = size.div_ceil(cluster);
    let (l1, refcounts) = (word(bytes, 40, 8), word(bytes, 48, 8));
    let first = |table: u64| word(bytes, table.min(size) as usize, 8) & 0x00ff_ffff_ffff_fe00;
    let (l2, block) = (first(l1), first(refcounts));
    // Values: offsets of tables with entry flags, and boundary values.
    let flags = random.of(&[0, 1 << 63, 1 << 62, 3 << 62, 1, (1 << 63) | 1, 0x1ff]);
    let somewhere = random.of(&[0, l1, l2, refcounts, block, size, size - cluster.min(size), cluster]);
    let edge = [
        0,
        1,
        2,
        3,
        8,
        31,
        63,
        64,
        511,
        512,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 55,
        1 << 56,
        1 << 63,
        u64::MAX,
    ];
    let value = match random.below(6) {
        0 => random.of(&edge),
        1 => random.below(clusters + 2) * cluster,
        2 => (random.below(clusters + 2) * cluster) | flags,
        3 => somewhere | flags,
        4 => random.next() >> random.below(64),
        _ => size.wrapping_add(random.below(3)).wrapping_sub(1),
    };
    let count = random.of(&[1, 1, 1, 2, 8, 64, cluster / 8]);
    match random.below(12) {
        0..3 => {
            let (at, length) = random.of(&[
                (4, 4),
                (8, 8),
                (16, 4),
                (20, 4),
                (24, 8),
                (32, 4),
                (36, 4),
                (40, 8),
                (48, 8),
                (56, 4),
                (60, 4),
                (64, 8),
                (72, 8),
                (80, 8),
                (88, 8),
                (96, 4),
                (100, 4),
                (104, 4),
                (104, 8),
                (112, 8),
                (120, 8),
            ]);
            put(bytes, at, length, value);
        }
        3..8 => {
            let table = random.of(&[l1, l2, l2, refcounts, refcounts, block, block]);
            let at = table.wrapping_add(8 * random.of(&[0, 0, 1, 2, random.0 % (cluster / 8)]));
            for entry in 0..count.min(cluster / 8) {
                put(
                    bytes,
                    at.wrapping_add(8 * entry),
                    8,
                    if count > 1 && flags == 0 { value.wrapping_add(entry * cluster) } else { value },
                );
            }
        }
        8 => put(bytes, random.below(size), 1, value),
        9 => bytes.truncate(random.below(size) as usize),
        10 => {
            let at = (random.below(clusters) * cluster) as usize;
            let fill = random.of(&[0, 0xff, 1]);
            bytes.iter_mut().skip(at).take(cluster as usize).for_each(|byte| *byte = fill);
        }
        _ => {
            let (from, to) = (random.below(clusters) * cluster, random.below(clusters) * cluster);
            let copy: Vec<u8> = bytes.iter().skip(from as usize).take(cluster as usize).copied().collect();
            bytes.iter_mut().skip(to as usize).zip(copy).for_each(|(byte, copy)| *byte = copy);
        }
    }
}

/// Writes the low `length` bytes of a number, except those beyond the end of `bytes`.
fn put(bytes: &mut [u8], at: u64, length: usize, value: u64) {
    let value = value.to_be_bytes();
    for (index, byte) in value[8 - length..].iter().enumerate() {
        if let Some(place) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at.checked_add(index)?)) {
            *place = *byte;
        }
    }
}

/// Replaces the content of a file that is in use.
fn overwrite(path: &Path, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_len(bytes.len() as u64).expect("room");
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).expect("room");
}

/// Performs random operations on a disk. Errors are allowed. Returns the number of operations that succeeded.
fn use_disk(disk: &dyn Disk, random: &mut Random) -> usize {
    let Ok(size) = disk.size() else { return 0 };
    let mut bytes = vec![0x42; 192 << 10];
    let mut good = 0;
    for _ in 0..14 {
        let length = (random.of(&[512, 4096, 65536, bytes.len() as u64])).min(size);
        let offset = random.of(&[0, random.0 % (size - length + 1), (1 << 19) & (size - 1), size - length]);
        let offset = (offset & !511).min(size - length);
        let part = &mut bytes[..length as usize];
        let long = (size - offset).min(1 << 30);
        let result = match random.below(8) {
            0 | 1 => disk.read(offset, part),
            2..5 => disk.write(offset, part),
            5 => disk.zero(offset, length, random.below(2) == 0),
            6 => disk.zero(offset, long, true),
            _ => disk.flush().and_then(|()| disk.allocation(offset, long).map(drop)),
        };
        good += usize::from(result.is_ok());
    }
    good
}

/// The child process: uses one image after the other, and prints the number of each before it starts.
#[test]
#[ignore = "run by a_damaged_image_never_causes_a_crash_a_hang_or_unbounded_memory_use"]
fn child() {
    let (Ok(folder), Ok(range)) = (std::env::var(FOLDER), std::env::var(RANGE)) else { return };
    let memory = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    setrlimit(Resource::As, memory).expect("a limit");
    // Panics of imago are expected and become errors, so no backtraces are printed.
    std::panic::set_hook(Box::new(|info| println!("{info}")));
    let mut images: Vec<_> =
        fs::read_dir(&folder).expect("images").map(|entry| entry.expect("an image").path()).collect();
    images.retain(|path| path.extension().is_some_and(|extension| extension == "qcow2"));
    images.sort();
    let images: Vec<_> = images.iter().map(|path| fs::read(path).expect("an image")).collect();
    let (first, end) = range.split_once("..").expect("a range");
    let own = Path::new(&folder).join(format!("damaged-{first}"));
    let (mut opened, mut good, mut slowest) = (0, 0, (Duration::ZERO, 0_u64));
    for number in first.parse().expect("a number")..end.parse().expect("a number") {
        println!("at {number}");
        let mut random = Random(number);
        let whole = &images[random.below(images.len() as u64) as usize];
        let mut bytes = whole.clone();
        for _ in 0..random.of(&[1, 1, 1, 2, 2, 3, 5]) {
            damage(&mut bytes, &mut random);
        }
        // Another program may also overwrite an image that is in use.
        let is_late = random.below(3) == 0;
        fs::write(&own, if is_late { whole } else { &bytes }).expect("room");
        let config = ImageOptions {
            path: own.clone(),
            readonly: random.below(8) == 0,
            format: Format::Qcow2,
            backing: random.of(&[BackingFiles::Folder, BackingFiles::Any]),
            ..ImageOptions::default()
        };
        let begun = Instant::now();
        // Twice, because the first use may have changed the image.
        for turn in 0..2 {
            if let Ok(disk) = open(&config) {
                opened += 1;
                if is_late && turn == 0 {
                    if random.below(2) == 0 {
                        good += use_disk(&*disk, &mut random);
                    }
                    overwrite(&own, &bytes);
                }
                good += use_disk(&*disk, &mut random);
            }
        }
        slowest = slowest.max((begun.elapsed(), number));
    }
    println!("the slowest: {slowest:?}");
    fs::remove_file(own).expect("a file");
    println!("opened {opened} good {good}");
}

#[test]
fn a_damaged_image_never_causes_a_crash_a_hang_or_unbounded_memory_use() {
    let Some(workshop) = Workshop::in_memory() else { return };
    make_images(&workshop);
    let mutations = std::env::var("VIRIDIAN_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTATIONS);
    let mut child = start(&workshop, &format!("0..{mutations}"));
    let (lines, said) = mpsc::channel();
    let output = child.stdout.take().expect("an output");
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    let mut last = String::from("nothing");
    loop {
        match receive_within(&said, PATIENCE) {
            Ok(line) if line.starts_with("at ") => last = line,
            Ok(line) if line.starts_with("opened ") => last = line,
            Ok(line) => eprintln!("{line}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().expect("a child");
                panic!("an image hangs: {last}");
            }
        }
    }
    let status = child.wait().expect("a child");
    assert!(status.success(), "{status} after \"{last}\"");
    let counts: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    // Enough images can still be opened and used. Otherwise the damage would be too severe for a useful test.
    assert!(counts[0] > mutations / 4 && counts[1] > mutations, "{last} of {mutations}");
    eprintln!("{last} of {mutations}");
}

fn start(workshop: &Workshop, range: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let name = "block::qcow2::tests::fuzz::child";
    command.args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, workshop.0.path()).env(RANGE, range).stdout(Stdio::piped()).spawn().expect("a child")
}
